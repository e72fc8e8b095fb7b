"""What a recipe says that `bwdeploy build` does not make: not yet, or because nothing would use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Recipe


def not_built_yet(recipe: Recipe) -> tuple[tuple[KeyPath, str], ...]:
    """The settings of `recipe` that `bwdeploy build` refuses, each with its name for people."""
    speculative = recipe.speculative
    refused = (
        (("quantize", "method"), recipe.quantize.method, recipe.quantize.method in {"qat", "qad"}),
        (("speculative", "method"), "EAGLE3 drafts", bool(speculative and speculative.method == "eagle3")),
    )
    return tuple((path, name) for path, name, is_refused in refused if is_refused)


def _not_built(subject: Subject) -> Iterator[Problem]:
    for path, name in not_built_yet(subject.recipe):
        message = f"{name}: checked, planned and estimated by this version, but not built"
        yield Problem(path, message, "use check, plan and estimate; build refuses it")


def _engine_unused(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.engine.backend == "tensorrt" and recipe.serve.runtime == "reference":
        message = "the runtime reference serves the checkpoint itself, so that no engine is built"
        yield Problem(("serve", "runtime"), message, "set serve.runtime: tensorrt_llm to build and serve one")


RULES = (
    Rule(
        id="recipe-engine-not-built",
        severity="info",
        summary="an engine that nothing would serve",
        find=_engine_unused,
        why="trtllm-build needs TensorRT-LLM and the GPU; the checkpoint that it would read is made, audited "
        "and served without them.",
    ),
    Rule(
        id="recipe-not-built-yet",
        severity="info",
        summary="a setting that this version plans but does not build",
        find=_not_built,
        why="bwdeploy build would have to leave out what the recipe asks for, so it refuses.",
    ),
)
