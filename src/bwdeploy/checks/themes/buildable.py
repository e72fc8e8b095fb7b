"""What a recipe says that `bwdeploy build` does not make, because nothing would use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator


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
)
