"""Object files that were compiled before, by what they were compiled from.

One entry is one file: a line of JSON (digest of the object, what the compiler said), then the object. It is
written beside its place and renamed, so that two builds and a `kill -9` leave whole entries. An entry that
does not hold what its first line says is a miss. Safe to delete at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.kernels.digests import files_of_unit
from bwdeploy.places import cache_directory

if TYPE_CHECKING:
    from bwdeploy.kernels.compile_plan import CompileUnit

_LOG = logging.getLogger(__name__)
_PARTIAL = ".new-"
_ABANDONED_S = 86_400.0


class CompiledObject(NamedTuple):
    """An object file and what the compiler said when it made it."""

    content: bytes
    output: str


@dataclass(frozen=True, slots=True)
class ObjectCache:
    """A directory of entries, shared by all builds of a user."""

    root: Path

    def find(self, key: str) -> CompiledObject | None:
        """The object, if it is there and whole."""
        try:
            head, _, content = self._entry(key).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("cached object %s cannot be read (%s); it is compiled again", key, error)
            return None
        try:
            said = json.loads(head)
            whole = said["sha256"] == hashlib.sha256(content).hexdigest()
            output = str(said["output"])
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            _LOG.warning("cached object %s is damaged; it is compiled again", self._entry(key))
            return None
        return CompiledObject(content, output)

    def keep(self, key: str, made: CompiledObject) -> None:
        """Add an object, if the directory can be written; what is there under the key is replaced."""
        head = {"sha256": hashlib.sha256(made.content).hexdigest(), "output": made.output}
        try:
            self._write(self._entry(key), json.dumps(head).encode() + b"\n" + made.content)
        except OSError as error:
            _LOG.warning("an object cannot be kept for the next build: %s", error)

    def sweep(self) -> None:
        """Remove what killed builds left half-written."""
        for partial in self.root.glob(f"{_PARTIAL}*"):
            with suppress(OSError):  # another build may be removing it too
                if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                    partial.unlink()

    def _write(self, entry: Path, content: bytes) -> None:
        entry.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=self.root, prefix=_PARTIAL)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(entry)
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise

    def _entry(self, key: str) -> Path:
        return self.root / key[:2] / key


def user_objects() -> ObjectCache:
    """The cache of this user; a home that x86_64 and aarch64 machines share has one for each."""
    return ObjectCache(cache_directory() / "kernels" / f"objects-{platform.machine()}")


def object_key(unit: CompileUnit, *, plugins: Path, compiler: tuple[str, ...]) -> str:
    """What an object depends on: its command line, the bytes of its sources, the compilers.

    The bytes as they are, comments too: they move the line numbers that objects and messages carry.
    """
    sources = files_of_unit(unit.source, plugins=plugins)
    document = {
        "source": unit.source,
        "flags": unit.flags,
        "depends_on": unit.depends_on,
        "compiler": compiler,
        "sources": {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sources.items()},
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
