"""Rules on versions that must fit together, and on recipes that were written for somebody else's machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.formats import format_table
from bwdeploy.facts.llm_args import bundled_schema
from bwdeploy.facts.stacks import (
    last_with_engines,
    modelopt_used,
    stack_of_image,
    triton_image,
    unknown_algorithms,
    versions_with_images,
)
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_PLACEHOLDER = re.compile(
    r"<[A-Za-z][\w -]*>|\bmy-(tag|image|model|registry|path)\b|\bCHANGE_?ME\b|\bREPLACE_?ME\b|\bTODO\b"
    r"|\byour-[\w-]+|\$\{\w+\}|/path/to/",
    re.IGNORECASE,
)
_HOME = re.compile(r"^(?:/[^/]+)*/(?:home|users?)/[^/]+/|^/root/", re.IGNORECASE)
_MAX_TEXT = 4096


def _engines_gone(subject: Subject) -> Iterator[Problem]:
    engine, last = subject.recipe.engine, last_with_engines()
    version, newest = parse_version(engine.tensorrt_llm), parse_version(last)
    if engine.backend == "tensorrt" and version is not None and newest is not None and version > newest:
        message = f"TensorRT-LLM {engine.tensorrt_llm} has no trtllm-build; {last} was the last with engines"
        hint = "set engine.backend: pytorch, or engine.tensorrt_llm: 1.2.1"
        yield Problem(("engine", "backend"), message, hint)


def _engine_image(subject: Subject) -> Iterator[Problem]:
    recipe, last = subject.recipe, parse_version(last_with_engines())
    version = parse_version(recipe.engine.tensorrt_llm)
    if recipe.engine.backend != "tensorrt" or recipe.serve.runtime != "tensorrt_llm":
        return
    if version is None or last is None or version > last or triton_image(recipe.engine.tensorrt_llm):
        return  # version-engines-gone says the rest
    message = (
        f"no known Triton image carries TensorRT-LLM {recipe.engine.tensorrt_llm}, and an engine loads in no "
        "other version, not even another patch"
    )
    usable = ", ".join(known for known in versions_with_images() if bundled_schema(known) is not None)
    yield Problem(("engine", "tensorrt_llm"), message, f"build and serve with one of {usable}")


def _algorithm_unknown(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    version, word = parse_version(recipe.engine.tensorrt_llm), recipe.quantize.format
    if recipe.serve.runtime != "tensorrt_llm" or version is None or word is None:
        return
    algorithm = format_table().formats[word].quant_algo
    for row in unknown_algorithms():
        before = parse_version(row.before)
        if row.quant_algo == algorithm and before is not None and version < before:
            message = (
                f"ModelOpt {modelopt_used()} names this format {algorithm}, a word that TensorRT-LLM "
                f"{recipe.engine.tensorrt_llm} does not know"
            )
            hint = f"write {row.use}, or serve.runtime: reference"
            yield Problem(("quantize", "format"), message, hint)


def _image_breaks(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    stack = stack_of_image(triton_image(recipe.engine.tensorrt_llm) or "")
    if recipe.serve.server == "trtllm-serve" or recipe.engine.backend == "tensorrt":
        return  # neither the other image nor the engine's backend imports it
    if recipe.serve.runtime == "tensorrt_llm" and stack is not None and stack.broken_openai:
        message = (
            f"the only Triton image with TensorRT-LLM {stack.tensorrt_llm}, {stack.image}, carries openai "
            f"{stack.broken_openai}, which breaks an import"
        )
        hint = "set engine.tensorrt_llm: 1.2.1 (image 26.06), or install another openai in the image"
        yield Problem(("engine", "tensorrt_llm"), message, hint)


def _placeholders(subject: Subject) -> Iterator[Problem]:
    for path, text in _texts(subject):
        found = _PLACEHOLDER.search(text)
        if found is not None:
            message = f"{found.group()!r} was left for you to fill in"
            yield Problem(path, message, "write your own value")


def _homes(subject: Subject) -> Iterator[Problem]:
    for path, text in _texts(subject):
        if path[0] == "engine" and _HOME.match(text) and not _is_here(text):
            message = f"{text} is a path of somebody's own machine, and there is nothing here"
            yield Problem(path, message, "write a path that the server has, or remove it")


def _texts(subject: Subject) -> Iterator[tuple[KeyPath, str]]:
    """Every text of the recipe that names something outside it."""
    recipe = subject.recipe
    yield ("model", "source"), recipe.model.source
    if recipe.speculative is not None and recipe.speculative.draft is not None:
        yield ("speculative", "draft"), recipe.speculative.draft
    yield ("quantize", "calibration", "dataset"), recipe.quantize.calibration.dataset
    if recipe.quantize.training is not None:
        yield ("quantize", "training", "dataset"), recipe.quantize.training.dataset
    if recipe.speculative is not None and recipe.speculative.train is not None:
        yield ("speculative", "train", "data"), recipe.speculative.train.data
    if recipe.speculative is not None and recipe.speculative.measure is not None:
        yield ("speculative", "measure", "prompts"), recipe.speculative.measure.prompts
    yield ("gate", "evaluation", "dataset"), recipe.gate.evaluation.dataset
    yield from _inside(("engine", "llm_args"), recipe.engine.llm_args)
    yield from _inside(("engine", "build_flags"), recipe.engine.build_flags)


def _inside(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:  # noqa: ANN401 - JSON data
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _inside((*path, key), below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _inside((*path, index), below)


def _is_here(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # a name that is too long or holds a NUL byte cannot exist
        return False


RULES = (
    Rule(
        id="version-engines-gone",
        severity="error",
        summary="engines with a TensorRT-LLM that has none",
        find=_engines_gone,
        source="https://github.com/NVIDIA/TensorRT-LLM/releases/tag/v1.3.0rc20",
        why="trtllm-build, the conversion scripts and the engine runtime are gone from the package.",
    ),
    Rule(
        id="version-engine-image",
        severity="error",
        summary="an engine that no Triton image can load",
        find=_engine_image,
        source="https://github.com/triton-inference-server/server/issues/7362 · "
        "https://github.com/triton-inference-server/server/issues/8462",
        why="An engine is bound to the TensorRT-LLM that built it; a server with another one refuses it, "
        "after hours of building.",
    ),
    Rule(
        id="version-modelopt-format",
        severity="error",
        summary="a ModelOpt format that this TensorRT-LLM does not know",
        find=_algorithm_unknown,
        source="tensorrt_llm/quantization/mode.py · https://github.com/NVIDIA/TensorRT-LLM/issues/3591",
        why="The checkpoint is made, passes its gate, and is refused when TensorRT-LLM reads "
        "hf_quant_config.json.",
    ),
    Rule(
        id="version-image-import",
        severity="warning",
        summary="a Triton image with a package that breaks an import",
        find=_image_breaks,
        source="triton-inference-server/server docs/getting_started/llm.md",
        why="The model does not load: ImportError from the openai package.",
    ),
    Rule(
        id="version-placeholder",
        severity="error",
        summary="a placeholder that nobody filled in",
        find=_placeholders,
        source="https://github.com/ai-dynamo/dynamo/issues/5479 · "
        "https://github.com/ai-dynamo/dynamo/pull/5416",
        why="Official recipes were shipped like that; the run fails after the first download.",
    ),
    Rule(
        id="version-foreign-path",
        severity="error",
        summary="a path of somebody else's machine",
        find=_homes,
        source="https://github.com/ai-dynamo/dynamo/pull/5416",
        why="The server looks for a file that exists on the author's machine only.",
    ),
)
