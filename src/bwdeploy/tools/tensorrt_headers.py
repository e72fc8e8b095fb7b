"""TensorRT's headers on this machine, for the plugin library of a pack: $TENSORRT_ROOT."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from bwdeploy.errors import HostError
from bwdeploy.kernels.tensorrt_plan import TensorRtPlace

VARIABLE: Final = "TENSORRT_ROOT"
_ABSENT: Final = "absent"
_OLDEST: Final = 10
"""The first TensorRT with IPluginV3."""
_HEADER: Final = "NvInferVersion.h"
_NUMBER: Final = re.compile(r"#define (?:TRT_(\w+)_ENTERPRISE|NV_TENSORRT_(\w+)) (\d+)")


def find_tensorrt() -> TensorRtPlace:
    """The headers below `$TENSORRT_ROOT`.

    Raises:
        HostError: the variable is not set, or there are no headers, or they are too old.
    """
    root = os.environ.get(VARIABLE)
    if not root:
        raise HostError(
            f"The TensorRT plugins need TensorRT's headers, and ${VARIABLE} is not set",
            hint=f"Set {VARIABLE} to the directory that has them, or their include directory",
        )
    include = next(
        (place for place in (Path(root, "include"), Path(root)) if (place / _HEADER).is_file()), None
    )
    if include is None:
        raise HostError(
            f"${VARIABLE} is {root}, and there is no {_HEADER} in it or its include directory",
            hint=f"Set {VARIABLE} to the directory of TensorRT's headers, or unset it",
        )
    version = _version((include / _HEADER).read_text(encoding="utf-8", errors="replace"))
    if int(version.partition(".")[0]) < _OLDEST:
        raise HostError(
            f"{include} has the headers of TensorRT {version}; {_OLDEST} or newer is needed",
            hint=f"Set {VARIABLE} to a newer TensorRT, or unset it",
        )
    return TensorRtPlace(version=version, include=include)


def installed_version() -> str:
    """Version of the headers that `find_tensorrt` finds, `absent` without any; raises nothing."""
    try:
        return find_tensorrt().version
    except (HostError, OSError):
        return _ABSENT


def _version(header: str) -> str:
    """Major, minor and patch number; 0 for what the header does not say."""
    numbers: dict[str, str] = {}
    for enterprise, plain, number in _NUMBER.findall(header):
        numbers.setdefault(enterprise or plain, number)
    return ".".join(numbers.get(name, "0") for name in ("MAJOR", "MINOR", "PATCH"))
