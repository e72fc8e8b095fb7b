"""SHA-256 of files, remembered by device, inode, size and modification time.

A model is read once: later plans and builds only stat its files. The memory is a small SQLite file in the
store, safe to share between processes and safe to delete.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from bwdeploy.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_CREATE = (
    "CREATE TABLE IF NOT EXISTS digest (device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER,"
    " sha256 TEXT NOT NULL, PRIMARY KEY (device, inode, size, mtime_ns))"
)
_FIND = "SELECT sha256 FROM digest WHERE device = ? AND inode = ? AND size = ? AND mtime_ns = ?"
_KEEP = "INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?, ?)"
_BUSY_TIMEOUT_S = 30


class FileDigests:
    """Digests of files and directories."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def of_file(self, path: Path) -> str:
        """SHA-256 of a file's content, as hex.

        Raises:
            StoreError: the memory cannot be opened.
            OSError: the file cannot be read.
        """
        return self.of_files([path])[path]

    def of_files(self, paths: Iterable[Path]) -> dict[Path, str]:
        """SHA-256 of each file, computed only for those that changed since they were last seen."""
        try:
            with closing(self._open()) as database, database:
                return {path: self._digest(database, path) for path in paths}
        except sqlite3.Error as error:
            raise StoreError(
                f"the digest memory {self._database} cannot be used: {error}",
                hint="Delete that file; it is rebuilt by reading the sources once",
            ) from error

    def _open(self) -> sqlite3.Connection:
        self._database.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._database, timeout=_BUSY_TIMEOUT_S)
        database.execute(_CREATE)
        return database

    def _digest(self, database: sqlite3.Connection, path: Path) -> str:
        stat = path.stat()
        # SQLite integers are signed: an inode above 2**63 would not fit
        identity = (stat.st_dev % 2**63, stat.st_ino % 2**63, stat.st_size, stat.st_mtime_ns)
        row = database.execute(_FIND, identity).fetchone()
        if row is not None:
            return str(row[0])
        sha256 = sha256_of(path)
        database.execute(_KEEP, (*identity, sha256))
        return sha256


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
