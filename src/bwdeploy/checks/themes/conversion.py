"""Rules on who makes the checkpoint that trtllm-build reads, and on drafts that must already be in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import draft_heads
from bwdeploy.checks.themes.build_flag_values import PATH
from bwdeploy.engines.conversion import conversion_problems
from bwdeploy.engines.drafts import MODE, brings_heads
from bwdeploy.facts.speculation import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterator

_WITH_HEADS = {"eagle": "EAGLE", "medusa": "Medusa", "explicit_draft_tokens": "ReDrafter"}
"""Modes whose heads are part of the checkpoint."""


def _without_effect(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    if engine.converter != "modelopt" and engine.backend != "tensorrt":
        message = "the PyTorch backend reads no TensorRT-LLM checkpoint, so that nothing is converted"
        yield Problem(("engine", "converter"), message, "remove it, or set engine.backend: tensorrt")


def _impossible(subject: Subject) -> Iterator[Problem]:
    for problem in conversion_problems(subject.recipe, subject.model):
        yield Problem(*problem)


def _heads(subject: Subject) -> Iterator[Problem]:
    """Of a mode in build_flags; with the section, speculative-heads-source looks at its heads."""
    recipe = subject.recipe
    mode = recipe.engine.build_flags.get(MODE) if recipe.engine.backend == "tensorrt" else None
    name = _WITH_HEADS.get(mode) if isinstance(mode, str) else None
    if name is None or (recipe.speculative is not None and recipe.speculative.method in HEADS):
        return
    if recipe.engine.converter == "tensorrt_llm" and brings_heads(recipe, subject.model.config):
        return
    message = f"{name} heads must be in the checkpoint, and none that is made here has them"
    hint = "draft_tokens_external and lookahead_decoding need none; or set engine.backend: pytorch"
    if mode in HEADS:
        hint = (
            f"write speculative: {{method: {mode}, draft: file://DIR}} instead, and set engine.converter: "
            "tensorrt_llm"
        )
    yield Problem((*PATH, MODE), message, hint)


RULES = (
    Rule(
        id="conversion-without-effect",
        severity="error",
        summary="a converter with a backend that converts nothing",
        find=_without_effect,
        source="tensorrt_llm/commands/build.py",
        why="The checkpoint would be made by ModelOpt, whatever the recipe says.",
    ),
    Rule(
        id="conversion-impossible",
        severity="error",
        summary="what TensorRT-LLM's converters cannot do",
        find=_impossible,
        source="examples/quantization/quantize.py · examples/models/core/llama/convert_checkpoint.py",
        why="The script stops with its usage text, or makes another checkpoint than the recipe says.",
    ),
    Rule(
        id="conversion-draft-heads",
        severity="error",
        summary="a draft whose heads are not in the checkpoint",
        find=_heads,
        source="examples/medusa/convert_checkpoint.py · examples/eagle/convert_checkpoint.py",
        why="trtllm-build needs the heads as part of the model (MedusaForCausalLM, EagleForCausalLM) and "
        "stops on the missing tensors.",
    ),
    *draft_heads.ENGINE_RULES,
)
