"""The store: finished artifacts by stage and key, published whole or not at all.

    artifacts/<stage>/<key>/artifact.json, files/…     published by one rename
    building/<key>.<random>/                           half-made; removed when its lock is free and no job
                                                       that goes on without us works in it
    progress/<key>/                                    what an interrupted training goes on from; removed when
                                                       the artifact is published
    locks/<key>.lock                                   one builder for each key
    refs/<recipe name>.json                            the newest keys of a recipe, for `plan --why` and `gc`
    logs/                                              output of workers
    digests.sqlite                                     see `digests`

Files are made read-only and hard-linked onward. An entry whose files no longer match is a miss with a
warning, never an error.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.digests import FileDigests
from bwdeploy.pipeline.trees import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.keys import KeyDocument

_LOG = logging.getLogger(__name__)
_MANIFEST = "artifact.json"
_FILES = "files"
_SCRATCH = "scratch"
RUNNING_JOB = "running-job.json"
"""In the scratch directory: the note of a job that goes on without us, so that it can be found again.

JSON with at least `executor` and `job`, its number there.
"""
_LOCK_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of an artifact."""

    path: str
    """Relative, with forward slashes."""
    size_bytes: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A finished result of a stage."""

    stage: str
    key: str
    directory: Path
    """Where its files lie; read only."""
    files: tuple[StoredFile, ...]
    key_document: dict[str, Any]
    seconds: float
    """How long it took to make."""

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something half-made that nobody builds any more."""

    key: str
    workspace: Path
    job: str
    """The job that may still work in it, for example `Slurm job 1000`; empty: none."""


class Store:
    """A directory of artifacts, shared by all builds of a user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests = FileDigests(root / "digests.sqlite")

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, if it is there and its files are as they were published (by size and time)."""
        entry = self._entry(stage, key)
        if not entry.is_dir():
            return None
        try:
            artifact = _read_artifact(entry)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("store entry %s is unreadable (%s); it will be rebuilt", entry, error)
            return None
        changed = [file.path for file in artifact.files if not as_published(artifact.directory, file)]
        if changed:
            _LOG.warning("store entry %s was changed (%s); it will be rebuilt", entry, ", ".join(changed[:3]))
            return None
        return artifact

    @contextmanager
    def lock(self, key: str, *, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the right to build `key`; `on_wait` is called once when somebody else holds it.

        The lock is the kernel's: it is free again when its holder dies.
        """
        lock = FileLock(self._made("locks") / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=_LOCK_POLL_S)
        try:
            yield
        finally:
            lock.release()

    def workspace(self, key: str) -> Path:
        """A directory to build `key` in: the one where a job of a dead builder still runs, else a fresh one.

        What else a dead builder of the same key left is removed. Call it with the lock of `key` held.
        """
        building = self._made("building")
        for leftover in building.glob(f"{key}.*"):
            if self.is_used(leftover):
                return leftover
            shutil.rmtree(leftover, ignore_errors=True)
        workspace = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=building))
        (workspace / _FILES).mkdir()
        (workspace / _SCRATCH).mkdir()
        return workspace

    def leftovers(self) -> Iterator[Leftover]:
        """What dead builders left, each with its lock held until the next is asked for."""
        for workspace in sorted((self.root / "building").glob("*.*")):
            key = workspace.name.partition(".")[0]
            lock = FileLock(self._made("locks") / f"{key}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:  # somebody builds it, and follows its job
                continue
            try:
                if workspace.is_dir():
                    yield Leftover(key=key, workspace=workspace, job=self._job_in(workspace))
            finally:
                lock.release()

    def discard(self, leftover: Leftover) -> None:
        """Remove it; call it while `leftovers` holds its lock."""
        shutil.rmtree(leftover.workspace, ignore_errors=True)

    def files_of(self, workspace: Path) -> Path:
        """Where a stage puts its files."""
        return workspace / _FILES

    def is_used(self, workspace: Path) -> bool:
        """Whether a job that goes on without us still works in it."""
        return (workspace / _SCRATCH / RUNNING_JOB).is_file()

    def scratch_of(self, workspace: Path) -> Path:
        """Where a stage's jobs put theirs."""
        return workspace / _SCRATCH

    def state_of(self, key: str) -> Path:
        """Where a stage that takes hours keeps what it needs to go on after an interruption.

        Call it with the lock of `key` held.
        """
        state = self._made("progress") / key
        state.mkdir(exist_ok=True)
        return state

    def states(self) -> Iterator[tuple[str, Path]]:
        """What unfinished stages have kept, by key, each with its lock held until the next is asked for."""
        for state in sorted((self.root / "progress").glob("*")):
            lock = FileLock(self._made("locks") / f"{state.name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:  # somebody goes on with it
                continue
            try:
                yield state.name, state
            finally:
                lock.release()

    def publish(
        self, workspace: Path, *, stage: str, key: str, document: KeyDocument, seconds: float
    ) -> Artifact:
        """Seal a filled workspace and move it to its place in one step."""
        shutil.rmtree(workspace / _SCRATCH)
        files = self._seal(workspace / _FILES)
        manifest = {
            "stage": stage,
            "key": key,
            "key_document": document,
            "seconds": round(seconds, 3),
            "files": [asdict(file) for file in files],
        }
        _write_durably(workspace / _MANIFEST, json.dumps(manifest, indent=1))
        entry = self._entry(stage, key)
        entry.parent.mkdir(parents=True, exist_ok=True)
        if entry.exists():  # broken, or it would have been found
            shutil.rmtree(entry)
        workspace.chmod(0o755)
        workspace.rename(entry)
        sync(entry.parent)
        shutil.rmtree(self.root / "progress" / key, ignore_errors=True)
        return _read_artifact(entry)

    def artifacts(self) -> list[Artifact]:
        """All readable artifacts."""
        found = []
        for manifest in sorted(self.root.glob(f"artifacts/*/*/{_MANIFEST}")):
            artifact = self.find(manifest.parent.parent.name, manifest.parent.name)
            if artifact is not None:
                found.append(artifact)
        return found

    def remove(self, artifact: Artifact) -> None:
        """Remove an artifact; outputs that link to its files keep them."""
        shutil.rmtree(self._entry(artifact.stage, artifact.key))

    def remember(self, name: str, keys: dict[str, str]) -> None:
        """Note the newest keys of the recipe `name`."""
        target = self._made("refs") / f"{name}.json"
        partial = target.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(keys, indent=1))
        partial.replace(target)

    def remembered(self, name: str) -> dict[str, str]:
        """The newest keys of the recipe `name`; empty when it was never built."""
        try:
            keys = json.loads((self.root / "refs" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return {str(stage): str(key) for stage, key in keys.items()} if isinstance(keys, dict) else {}

    def referenced_keys(self) -> set[str]:
        """Keys that the newest build of any recipe uses."""
        names = [path.stem for path in self.root.glob("refs/*.json")]
        return {key for name in names for key in self.remembered(name).values()}

    def log_path(self, name: str, stage: str) -> Path:
        """A new log file for one run of a stage."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return self._made("logs") / f"{name}.{stage}.{stamp}.{os.getpid()}.log"

    def _job_in(self, workspace: Path) -> str:
        if not self.is_used(workspace):
            return ""
        try:
            note = json.loads((self.scratch_of(workspace) / RUNNING_JOB).read_text())
            return f"{note['executor'].capitalize()} job {note['job']}".strip()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "A job"

    def _entry(self, stage: str, key: str) -> Path:
        return self.root / "artifacts" / stage / key

    def _made(self, name: str) -> Path:
        directory = self.root / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _seal(self, directory: Path) -> tuple[StoredFile, ...]:
        paths = sorted(path for path in directory.rglob("*") if path.is_file())
        for path in paths:
            if path.stat().st_nlink == 1:  # a linked file belongs to somebody else
                path.chmod(0o444)
            sync(path)
        digests = self.digests.of_files(paths)
        return tuple(
            StoredFile(
                path=path.relative_to(directory).as_posix(),
                size_bytes=path.stat().st_size,
                sha256=digests[path],
                mtime_ns=path.stat().st_mtime_ns,
            )
            for path in paths
        )


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn what the file system refuses into one clear StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreError(
                f"no space left for {place}",
                hint="Free some space (`bwdeploy store gc` removes what no recipe uses), or set"
                " BWDEPLOY_STORE to a larger disk; what was finished is kept",
            ) from error
        raise StoreError(
            f"{error.filename or place}: {error.strerror or error}",
            hint="Check that the path exists and is writable",
        ) from error


def as_published(directory: Path, file: StoredFile) -> bool:
    """Whether the file below `directory` still has the size and time it was published with."""
    try:
        stat = (directory / file.path).stat()
    except OSError:
        return False
    return stat.st_size == file.size_bytes and stat.st_mtime_ns == file.mtime_ns


def _read_artifact(entry: Path) -> Artifact:
    manifest = json.loads((entry / _MANIFEST).read_text())
    return Artifact(
        stage=manifest["stage"],
        key=manifest["key"],
        directory=entry / _FILES,
        files=tuple(StoredFile(**file) for file in manifest["files"]),
        key_document=manifest["key_document"],
        seconds=manifest["seconds"],
    )


def _write_durably(path: Path, text: str) -> None:
    path.write_text(text)
    sync(path)
