"""Load a pack inside a job as a serving process does: with the pack's own copy of what loads it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import HostError

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Device

_PACKAGE = "bwdeploy_kernels"


def load_for_job(directory: Path, *, device: Device, ops: tuple[str, ...]) -> Any:  # noqa: ANN401 - its Pack
    """The loaded `bwdeploy_kernels.pack.Pack`; `ops` empty: all of it.

    Raises:
        HostError: the pack is broken, has no such op, or was built for another host; nothing of it was
        loaded.
    """
    if _PACKAGE not in sys.modules and (directory / _PACKAGE).is_dir():
        sys.path.insert(0, str(directory))
    from bwdeploy_kernels.errors import PackError  # noqa: PLC0415 - after its place on the path is decided
    from bwdeploy_kernels.pack import load_pack  # noqa: PLC0415

    try:
        return load_pack(directory, device=device, ops=ops or None)
    except PackError as error:
        raise HostError(str(error)) from error
