"""Which stage's artifact is the checkpoint that is audited and served, and in which layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import CheckpointLayout
    from bwdeploy.recipe.schema import Recipe


def checkpoint_stage(recipe: Recipe) -> str:
    """`quantize` when the recipe quantizes or builds an engine, else the source itself."""
    made = recipe.quantize.quantizes or checkpoint_layout(recipe) == "tensorrt_llm"
    return "quantize" if made else "source"


def has_reference(recipe: Recipe) -> bool:
    """Whether the recipe names the model that its prequantized source was made from."""
    as_it_is = recipe.quantize.method == "prequantized" and checkpoint_stage(recipe) == "source"
    return as_it_is and recipe.gate.reference is not None


def checkpoint_layout(recipe: Recipe) -> CheckpointLayout:
    """trtllm-build reads a layout of its own, everything else the unified one."""
    return "tensorrt_llm" if recipe.engine.backend == "tensorrt" else "unified"
