"""Rules on a repository that serves an engine: the engine, the tokenizer, and the models around them.

A path in config.pbtxt is one of the server's container. It is looked for on this machine, and below the
repository itself, which is mounted there; what is found nowhere is not judged. Engine files are not opened.
"""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.engines.directory import EngineDirectory, EngineError, read_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.serving.repository_check.model import ModelDirectory, RepositoryProblem

_ENGINE = "gpt_model_path"
_TOKENIZER = "tokenizer_dir"
_MODEL_OF_BLS = "tensorrt_llm_model_name"
_TOKENIZER_FILE = "tokenizer.json"
_MODEL_CONFIG = "triton-inference-server/tensorrtllm_backend docs/model_config.md"


class ServedEngine(NamedTuple):
    """An engine of the repository and the model that loads it."""

    model: ModelDirectory
    engine: EngineDirectory


def found_engines(
    models: Sequence[ModelDirectory], problems: list[RepositoryProblem]
) -> tuple[ServedEngine, ...]:
    """The engines that are on this machine and can be read; `problems` learns of the others."""
    found = []
    for model in models:
        place = _here(model, model.parameter(_ENGINE))
        if place is None or model.parameter(_TOKENIZER):  # preprocessing names the engine too
            continue
        try:
            found.append(ServedEngine(model, read_engine(place)))
        except EngineError as error:
            problems.append(
                model.problem("triton-engine-unreadable", error.message, error.hint, near=_ENGINE)
            )
    return tuple(found)


def engine_problems(
    models: Sequence[ModelDirectory], engines: Sequence[ServedEngine]
) -> Iterator[RepositoryProblem]:
    """Everything wrong with the engines and the models around them; launch files are `engine_launch`."""
    for served in engines:
        yield from _rank_problems(served)
        yield from _batch_problems(served)
    yield from _tokenizer_problems(models)
    yield from _decoupled_problems(models)


def _rank_problems(served: ServedEngine) -> Iterator[RepositoryProblem]:
    engine = served.engine
    if engine.missing_ranks:
        names = ", ".join(engine.missing_files)
        message = f"{engine.file.parent} lacks {names} of its {engine.mapping.world_size} ranks"
        hint = "copy all of the engine, or build it again"
        yield served.model.problem("triton-engine-ranks", message, hint, near=_ENGINE)


def _batch_problems(served: ServedEngine) -> Iterator[RepositoryProblem]:
    batch, most = served.model.config.max_batch_size, served.engine.max_batch_size
    if most is not None and batch > most:
        message = f"max_batch_size is {batch}, and the engine was built for {most}"
        hint = f"write {most} or less, or build with --max_batch_size {batch}"
        yield served.model.problem("triton-engine-batch", message, hint, near="max_batch_size")


def _tokenizer_problems(models: Sequence[ModelDirectory]) -> Iterator[RepositoryProblem]:
    users = [model for model in models if model.parameter(_TOKENIZER)]
    paths_are_of_here = any(
        Path(said).is_dir()
        for model in models
        for said in (model.parameter(_ENGINE), model.parameter(_TOKENIZER))
        if said
    )
    for model in users:
        said = model.parameter(_TOKENIZER)
        if paths_are_of_here and Path(said).is_absolute() and _here(model, said) is None:
            message = f"there is no {said}, although other paths of the repository are on this machine"
            hint = "name the directory of the tokenizer that the model was quantized with"
            yield model.problem("triton-tokenizer-missing", message, hint, near=_TOKENIZER)
    for model in users[1:]:
        if not _same_tokenizer(users[0], model):
            message = f"{model.name} reads {model.parameter(_TOKENIZER)}, {users[0].name} another tokenizer"
            hint = f"name {users[0].parameter(_TOKENIZER)} in both"
            yield model.problem("triton-tokenizer-differs", message, hint, near=_TOKENIZER)


def _same_tokenizer(one: ModelDirectory, other: ModelDirectory) -> bool:
    said = one.parameter(_TOKENIZER), other.parameter(_TOKENIZER)
    if said[0].rstrip("/") == said[1].rstrip("/"):
        return True
    places = _here(one, said[0]), _here(other, said[1])
    if places[0] is None or places[1] is None:
        return False
    try:  # what is no regular file, such as a link to /dev/zero, is never read
        return filecmp.cmp(places[0] / _TOKENIZER_FILE, places[1] / _TOKENIZER_FILE, shallow=False)
    except OSError:
        return False


def _decoupled_problems(models: Sequence[ModelDirectory]) -> Iterator[RepositoryProblem]:
    known = {model.name: model for model in models}
    for model in models:
        if _MODEL_OF_BLS not in model.config.parameters:
            continue
        inner = known.get(model.parameter(_MODEL_OF_BLS) or "tensorrt_llm")
        if inner is not None and inner.decoupled != model.decoupled:
            mine, theirs = (str(one.decoupled).lower() for one in (model, inner))
            message = f"decoupled is {mine} here and {theirs} in {inner.name}"
            hint = f"write model_transaction_policy {{ decoupled: {theirs} }} in both"
            yield model.problem("triton-decoupled-differs", message, hint, near="model_transaction_policy")


def _here(model: ModelDirectory, said: str) -> Path | None:
    """The directory that a path of the server means on this machine; None when it is not here."""
    if not said:
        return None
    path, repository = Path(said), model.place.parent
    if path.is_absolute() and path.is_dir():
        return path
    parts = path.parts
    inside = (repository.joinpath(*parts[start:]) for start in range(1, len(parts)))
    return next((place for place in inside if place.is_dir()), None)


ENGINE_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-engine-unreadable",
        "error",
        "what should be an engine is none",
        _MODEL_CONFIG,
        "The backend reads config.json of engine_dir first, and the model does not load.",
    ),
    DescribedRule(
        "triton-engine-ranks",
        "error",
        "an engine without the files of some ranks",
        "NVIDIA/TensorRT-LLM triton_backend/inflight_batcher_llm",
        "Each rank loads its own rankN.engine; the server ends, or hangs in MPI, when one is missing.",
    ),
    DescribedRule(
        "triton-engine-batch",
        "error",
        "a larger batch than the engine was built for",
        _MODEL_CONFIG,
        "The backend refuses the model, or requests beyond the engine's batch wait uncounted.",
    ),
    DescribedRule(
        "triton-tokenizer-missing",
        "error",
        "a tokenizer that is not there",
        _MODEL_CONFIG,
        "Preprocessing and postprocessing do not load, and the ensemble with them.",
    ),
    DescribedRule(
        "triton-tokenizer-differs",
        "warning",
        "preprocessing and postprocessing with different tokenizers",
        _MODEL_CONFIG,
        "Answers are turned into text by another vocabulary than the prompt was made with: they are garbage.",
    ),
    DescribedRule(
        "triton-decoupled-differs",
        "error",
        "tensorrt_llm and tensorrt_llm_bls differ in decoupled",
        _MODEL_CONFIG,
        "The server accepts it; the first request through the other model fails or hangs.",
    ),
)
"""Rules about the engine and the models around it."""
