"""A kernel pack in a directory of the user: made beside its place, then put there in one step.

A reader sees the old pack or the new one. A directory that holds anything else is never replaced.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from filelock import FileLock

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.store import storage_errors
from bwdeploy.pipeline.trees import sync
from bwdeploy_kernels.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")

_PARTS: Final = {MANIFEST, "lib", "reference", "bwdeploy_kernels", "tensorrt"}
_KEYS_OF_PACKS: Final = {"bwdeploy", "sms", "ops"}
_AT_CURRENT_DIRECTORY: Final = -100
_EXCHANGE: Final = 2


def publish_pack(out: Path, make: Callable[[Path, Path], ResultT]) -> ResultT:
    """Fill a new pack with `make(directory, scratch)` and put it at `out`.

    Raises:
        StoreError: `out` holds something that is no pack, or cannot be written.
    """
    place = out.absolute()
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / f".{place.name}.lock"):
            _refuse_foreign(place)
            return _replace(place, make)


def _refuse_foreign(place: Path) -> None:
    problem = _foreign(place)
    if problem:
        raise StoreError(f"{place} {problem}", hint="Choose another directory, or move it away")


def _foreign(place: Path) -> str:
    """Why a pack must not take this place; empty when it may."""
    if place.is_symlink():
        return "is a link"
    if not place.exists():
        return ""
    if place.samefile(Path.cwd()):
        return "is the current directory"
    entries = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if entries and _is_pack(place):
        others = sorted(entries - _PARTS)
        return f"holds {others[0]!r}, which is no part of a kernel pack" if others else ""
    return "" if place.is_dir() and not entries else "exists and is no kernel pack"


def _is_pack(place: Path) -> bool:
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.keys() >= _KEYS_OF_PACKS


def _replace(place: Path, make: Callable[[Path, Path], ResultT]) -> ResultT:
    prefix = f".{place.name}.new-"
    for leftover in place.parent.glob(f"{prefix}*"):  # of a build that was killed: the lock is ours now
        shutil.rmtree(leftover, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
    try:
        fresh, scratch = beside / "new", beside / "scratch"
        fresh.mkdir()
        scratch.mkdir()
        result = make(fresh, scratch)
        _write_out(fresh)
        if not (place.exists() and _exchange(fresh, place)):
            if place.exists():
                place.rename(beside / "old")
            fresh.rename(place)
        sync(place.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return result


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where the system or the file system cannot."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    if exchange is None:
        return False
    paths = (_AT_CURRENT_DIRECTORY, os.fsencode(one), _AT_CURRENT_DIRECTORY, os.fsencode(other))
    return bool(exchange(*paths, _EXCHANGE) == 0)


def _write_out(directory: Path) -> None:
    """Bring everything below to the disk before its name appears."""
    for path in (*directory.rglob("*"), directory):
        sync(path)
