"""Where NVIDIA's aiconfigurator is installed: the python of an environment of its own, 850 MB large.

Found through `$BWDEPLOY_AICONFIGURATOR` (a python, or the tool's command), else by its command on PATH
(`aiconfigurator`, or `aisimulate` as its successor is called), else in bwdeploy's cache. Nothing is started.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bwdeploy.errors import HostError
from bwdeploy.places import cache_directory

VARIABLE = "BWDEPLOY_AICONFIGURATOR"
TESTED_VERSION = "0.12.0"

_COMMANDS = ("aiconfigurator", "aisimulate")
_FIRST_BYTES = 1024
_SHELL = "#!/bin/sh"
_EXEC = "'''exec' "
"""How pip writes a first line that is too long for the kernel: a second line for /bin/sh."""


def find_python() -> Path | None:
    """The python of the tool's environment, None when the tool is not installed.

    Raises:
        HostError: `$BWDEPLOY_AICONFIGURATOR` names nothing that can be run.
    """
    if chosen := os.environ.get(VARIABLE):
        found = shutil.which(Path(chosen).expanduser())
        if found is None:
            raise HostError(
                f"${VARIABLE} is {chosen!r}, which is no program", hint=_capitalised(install_hint())
            )
        return _python_of(Path(found))
    for command in _COMMANDS:
        if found := shutil.which(command):
            return _python_of(Path(found))
    managed = managed_environment() / "bin" / "python"
    return managed if managed.is_file() else None


def managed_environment() -> Path:
    """Where bwdeploy looks for an environment of its own."""
    return cache_directory() / "aiconfigurator" / "venv"


def install_hint() -> str:
    """How to get the tool."""
    place = managed_environment()
    return (
        f"install it with `python -m venv {place} && {place}/bin/pip install"
        f" aiconfigurator=={TESTED_VERSION}` (850 MB)"
    )


def _python_of(program: Path) -> Path:
    """A python as it is; of a console script the python that its first lines name.

    Raises:
        HostError: it is neither.
    """
    if program.name.startswith("python"):
        return program
    with program.open("rb") as file:
        lines = file.read(_FIRST_BYTES).decode("utf-8", errors="replace").splitlines()
    named = _interpreter(lines)
    if named is None or not named.name.startswith("python"):
        raise HostError(
            f"{program} is neither a python nor a script of one",
            hint=f"Set ${VARIABLE} to the python of the environment that aiconfigurator is installed in",
        )
    return named


def _interpreter(lines: list[str]) -> Path | None:
    first, second = (*lines, "", "")[:2]
    if first.strip() == _SHELL and second.startswith(_EXEC):
        return Path(second.removeprefix(_EXEC).split(" ")[0].strip('"'))
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    if not words:
        return None
    if Path(words[0]).name != "env":
        return Path(words[0])
    found = shutil.which(words[-1])
    return Path(found) if found else None


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
