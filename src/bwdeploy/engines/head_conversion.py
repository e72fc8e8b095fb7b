"""Draft heads on the command line of a converter: the words for them, and what cannot be converted along.

Part of `conversion`. Medusa's script writes config.json before it reads the heads' own configuration, so that
everything in it is given as an option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.engines.conversion_scripts import MEDUSA_BASES
from bwdeploy.model.describe import describe_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.engines.conversion_scripts import Script
    from bwdeploy.engines.drafts import Heads
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Recipe

DRAFT = "DRAFT"
"""Stands in the command for the directory of the heads."""


def head_words(heads: Heads, script: Script, architecture: str | None) -> tuple[str, ...]:
    """The options for `heads` of the script that converts them."""
    words = [script.draft_flag, str(heads.draft_len)]
    if heads.draft is not None:
        words += [script.heads_flag, DRAFT]
    if heads.kind == "eagle":
        words += [script.depth_flag, str(heads.tree.depth)]
        return (*words, "--max_non_leaves_per_layer", str(heads.tree.widest))
    if heads.draft is not None:
        words += [script.depth_flag, str(heads.tree.depth)]
        words += ["--num_medusa_layers", str(medusa_layers(heads.draft))]
    return (*words, "--model_type", MEDUSA_BASES.get(architecture or "", "llama"))


def medusa_layers(draft: str) -> int:
    """Layers of each Medusa head, by the configuration beside them."""
    value = (describe_source(draft).config or {}).get("medusa_num_layers")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1


def head_problems(
    recipe: Recipe, heads: Heads, architecture: str | None
) -> Iterator[tuple[KeyPath, str, str]]:
    """What cannot be converted together with `heads`: place, message and hint."""
    quantize, name = recipe.quantize, heads.kind.capitalize() if heads.kind == "medusa" else "EAGLE"
    if quantize.quantizes or quantize.kv_cache != "none":
        key = "method" if quantize.quantizes else "kv_cache"
        message = (
            f"{name} heads are converted with an unquantized model, or with one quantized together with them"
        )
        hint = (
            "set quantize: {method: none}, or name a source that ModelOpt quantized with its heads and "
            "method: prequantized"
        )
        yield ("quantize", key), message, hint
    if architecture == "Qwen2ForCausalLM" and heads.kind == "medusa" and recipe.layout.tp > 1:
        message = "medusa/convert_checkpoint.py does not cut Qwen2 models into ranks"
        yield ("layout", "tp"), message, "set layout.tp: 1"
