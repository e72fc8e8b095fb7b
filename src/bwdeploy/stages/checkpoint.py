"""Which stage's artifact is the checkpoint that is audited and served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Recipe


def checkpoint_stage(recipe: Recipe) -> str:
    """`quantize` when the recipe quantizes, else the source itself."""
    return "quantize" if recipe.quantize.quantizes else "source"
