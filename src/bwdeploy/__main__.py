"""The program as a process: it starts fast, runs the command line and leaves at once."""

from __future__ import annotations

import gc
import os
import sys
from types import ModuleType
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line and end the process with its exit code.

    A light verb lives for a fifth of a second. Walking cycles, looking through every installed distribution
    for pydantic plugins, and taking the interpreter down in order would be a quarter of that, for nothing:
    few cycles are made, no plugin is used, and everything that must be closed is closed by its own context.
    """
    gc.disable()
    _skip_plugins_of_pydantic()
    from bwdeploy.cli import main  # noqa: PLC0415 - after the two lines above

    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = status or 1  # whoever read our output has gone; there is nobody to tell
    os._exit(status)


def _skip_plugins_of_pydantic() -> None:
    """Put an empty plugin loader in pydantic's place: the real one imports importlib.metadata (10 ms).

    Should pydantic rename that private module, this stands there unused and only the time is lost.
    """
    loader = ModuleType("pydantic.plugin._loader")
    loader.__dict__["get_plugins"] = tuple
    sys.modules[loader.__name__] = loader


if __name__ == "__main__":
    run()
