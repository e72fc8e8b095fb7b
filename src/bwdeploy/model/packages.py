"""Files inside installed Python packages, found from `dist-info` directories on `sys.path`.

What importlib.metadata answers too, without its 15 ms of imports: `check` looks here for every recipe whose
model comes in a package. Only files that a package's RECORD lists as its own are found.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

_INFO = ".dist-info"


@cache
def package_files(distribution: str) -> tuple[Path, ...] | None:
    """Every file of an installed distribution as its RECORD names it, None when it is not installed.

    Names compare as PEP 503 says.
    """
    info = _dist_info(distribution)
    if info is None:
        return None
    try:
        lines = (info / "RECORD").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ()
    return tuple(Path(line.rsplit(",", 2)[0].strip('"')) for line in lines if line.count(",") > 1)


def package_file(distribution: str, inside: str) -> Path | None:
    """The file `inside`, a path below the package's folder or below its root; None without it."""
    wanted, info = Path(inside).parts, _dist_info(distribution)
    if info is None or not wanted:
        return None
    for file in package_files(distribution) or ():
        if wanted in {file.parts, file.parts[1:]}:
            return info.parent / file
    return None


@cache
def _dist_info(distribution: str) -> Path | None:
    wanted = _normalized(distribution)
    for place in sys.path:
        try:
            with os.scandir(place or ".") as entries:
                names = [entry.name for entry in entries if entry.name.endswith(_INFO)]
        except OSError:
            continue
        for name in names:
            if _normalized(name.removesuffix(_INFO).rpartition("-")[0]) == wanted:
                return Path(place or ".", name)
    return None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
