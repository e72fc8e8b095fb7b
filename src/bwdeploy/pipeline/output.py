"""The output directory: the model repository linked out of the store, reports, and `bwdeploy.json`.

It is filled beside its place and renamed into it, so a reader sees the old build or the new one. A directory
that was not written by bwdeploy is never replaced. Pages about the build are of no stage: they are written
last, and `bwdeploy.json` has their digests and who made them apart from the stages' files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock

from bwdeploy import __version__
from bwdeploy.errors import StoreError
from bwdeploy.pipeline.digests import sha256_of
from bwdeploy.pipeline.store import as_published, storage_errors
from bwdeploy.pipeline.trees import link_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.run import StageResult
    from bwdeploy.pipeline.store import StoredFile
    from bwdeploy.recipe.schema import Recipe

MANIFEST = "bwdeploy.json"
MANIFEST_SCHEMA = 1
_PAGES = "pages"


class Reporter(Protocol):
    """Writes pages about a finished build."""

    @property
    def made_with(self) -> str:
        """What pages depend on besides the build; while it is the same, they are not made again."""
        ...

    def pages(self, manifest: Mapping[str, Any], made: Mapping[str, Path]) -> Mapping[str, str]:
        """Path inside the output → text; `made` are the directories of the stages' artifacts."""
        ...


def publish_output(
    out: Path,
    *,
    recipe: Recipe,
    recipe_text: str,
    host: Host,
    results: Sequence[StageResult],
    placed: Mapping[str, str],
    reporter: Reporter | None = None,
) -> None:
    """Write the output directory, or leave it as it is when it already holds this very build.

    Args:
        out: The directory to write; must not exist, or must be an earlier output.
        recipe: The recipe that was built.
        recipe_text: Its YAML text, recorded as it was.
        host: The machine that built it.
        results: All stages of the build.
        placed: Stage name → directory inside `out` (`.` for its top) where its files go.
        reporter: Writes pages about the build; None: there are none.

    Raises:
        StoreError: the directory holds something else, or cannot be written.
    """
    manifest = manifest_of(recipe, recipe_text, host, results, placed)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.parent / f".{out.name}.lock"):
            if not _holds(out, manifest, results, placed, reporter):
                _refuse_foreign(out)
                _replace(out, manifest, results, placed, reporter)


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of an output directory.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    path = out / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise StoreError(
            f"{out} is not an output of bwdeploy: it has no {MANIFEST}",
            hint="Make one with `bwdeploy build RECIPE -o DIR`",
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="Build the recipe again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != MANIFEST_SCHEMA:
        raise StoreError(
            f"{path} was written by another version of bwdeploy",
            hint="Build the recipe again with this version",
        )
    return manifest


def damaged_files(out: Path) -> list[str]:
    """Every file of the output that is missing or whose content is not what was built; reads all of it."""
    problems = []
    for file in recorded_files(read_manifest(out)):
        path = out / file["path"]
        if not path.is_file():
            problems.append(f"{file['path']} is missing")
        elif path.stat().st_size != file["size_bytes"] or sha256_of(path) != file["sha256"]:
            problems.append(f"{file['path']} was changed")
    return problems


def recorded_files(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every file of an output but the manifest itself: path, size_bytes and sha256.

    Raises:
        StoreError: the manifest does not say.
    """
    try:
        return [*manifest["files"], *manifest.get(_PAGES, {}).get("files", ())]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{MANIFEST} does not say which files the output has", hint="Build the recipe again"
        ) from error


def manifest_of(
    recipe: Recipe, recipe_text: str, host: Host, results: Sequence[StageResult], placed: Mapping[str, str]
) -> dict[str, Any]:
    """What `bwdeploy.json` says of a build, without its pages; arguments as of `publish_output`."""
    return {
        "schema": MANIFEST_SCHEMA,
        "bwdeploy": __version__,
        "name": recipe.name,
        "recipe_text": recipe_text,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "host": host.as_json(),
        "stages": [
            {
                "name": result.name,
                "key": result.key,
                "tools": result.artifact.key_document["tools"],
                "params": result.artifact.key_document["params"],
                "sources": result.artifact.key_document["sources"],
                "seconds_to_make": result.artifact.seconds,
                "files": [_shown(file) for file in result.artifact.files],
            }
            for result in results
        ],
        "files": [
            _shown(file) | {"path": Path(placed[result.name], file.path).as_posix()}
            for result in results
            if result.name in placed
            for file in result.artifact.files
        ],
    }


def _shown(file: StoredFile) -> dict[str, Any]:
    return {name: value for name, value in asdict(file).items() if name != "mtime_ns"}


def _holds(
    out: Path,
    manifest: dict[str, Any],
    results: Sequence[StageResult],
    placed: Mapping[str, str],
    reporter: Reporter | None,
) -> bool:
    """Whether `out` is this build already: the same manifest, the very files of the store, the pages."""
    try:
        found = json.loads((out / MANIFEST).read_text())
        pages = found.pop(_PAGES, None)
    except (OSError, ValueError, AttributeError):
        return False
    return (
        found == manifest
        and all(
            as_published(out / placed[result.name], file)
            for result in results
            if result.name in placed
            for file in result.artifact.files
        )
        and _holds_pages(out, pages, reporter)
    )


def _holds_pages(out: Path, pages: dict[str, Any] | None, reporter: Reporter | None) -> bool:
    """Whether the pages are those of the reporter; when it failed there are none, and it is asked again."""
    if reporter is None or not pages:
        return reporter is None and pages is None
    return (
        bool(pages["files"])
        and pages["made_with"] == reporter.made_with
        and all(
            (out / page["path"]).is_file() and sha256_of(out / page["path"]) == page["sha256"]
            for page in pages["files"]
        )
    )


def _refuse_foreign(out: Path) -> None:
    if not out.exists() or (out / MANIFEST).is_file() or (out.is_dir() and not any(out.iterdir())):
        return
    raise StoreError(
        f"{out} exists and was not written by bwdeploy",
        hint="Choose another directory with -o, or move it away",
    )


def _replace(
    out: Path,
    manifest: dict[str, Any],
    results: Sequence[StageResult],
    placed: Mapping[str, str],
    reporter: Reporter | None,
) -> None:
    prefix = f".{out.name}.new-"
    for leftover in out.parent.glob(f"{prefix}*"):  # of a build that was killed: the lock is ours now
        shutil.rmtree(leftover, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
    try:
        fresh, old = beside / "new", beside / "old"
        fresh.mkdir()
        for result in results:
            if result.name in placed:
                link_tree(result.artifact.directory, fresh / placed[result.name])
        if reporter is not None:
            made = {result.name: result.artifact.directory for result in results}
            pages = _write_pages(fresh, reporter.pages(manifest, made))
            manifest = manifest | {_PAGES: {"made_with": reporter.made_with, "files": pages}}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_pages(top: Path, pages: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the manifest says of them."""
    written = []
    for path, text in pages.items():
        content = text.encode()
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content)
        written.append(
            {
                "path": path,
                "size_bytes": len(content),
                "sha256": sha256(content).hexdigest(),
            }
        )
    return written
