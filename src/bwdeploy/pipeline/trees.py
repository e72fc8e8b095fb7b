"""Trees of files: what of a directory counts as its content, linking it elsewhere, bringing it to the disk.

Links inside a directory are followed only to files of the same directory or of the Hugging Face cache it
belongs to, so that a stranger's model directory cannot pull in other files of this machine.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from bwdeploy.errors import HostError, StoreError

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})
"""Another file system, one without hard links, or too many links: then a file is copied."""


def content_files(root: Path) -> dict[str, Path]:
    """Relative name → real path of each file below `root`; for a file, itself under its own name.

    Hidden files and directories do not count, nor does compiled Python.

    Raises:
        HostError: a link leads outside.
    """
    if not root.is_dir():
        return {root.name: root}
    files: dict[str, Path] = {}
    for directory, directories, names in os.walk(root):
        directories[:] = sorted(name for name in directories if not _ignored(name))
        for name in sorted(names):
            path = Path(directory, name)
            if not _ignored(name):
                files[path.relative_to(root).as_posix()] = _inside(path, root)
    return files


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it with its times where a link is impossible.

    Raises:
        OSError: the file cannot be read, or the target not written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(source, target)


def link_tree(source: Path, target: Path) -> None:
    """Link every file below `source` to the same place below `target`.

    Raises:
        StoreError: `source` holds a link or a device, which would not survive in another place.
        OSError: as `link_or_copy`.
    """
    for path in source.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise StoreError(
                f"{path} is not a plain file",
                hint="Replace links by what they point to (cp -rL) and try again",
            )
        if path.is_file():
            link_or_copy(path, target / path.relative_to(source))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _inside(path: Path, root: Path) -> Path:
    real = path.resolve()
    if any(real.is_relative_to(allowed.resolve()) for allowed in _allowed_roots(root)):
        return real
    raise HostError(
        f"{path} is a link to {real}, outside of the model directory",
        hint="Copy the file into the directory, or name the directory that really holds it",
    )


def _allowed_roots(root: Path) -> list[Path]:
    is_hub_snapshot = root.parent.name == "snapshots"
    return [root, root.parent.parent / "blobs"] if is_hub_snapshot else [root]


def sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
