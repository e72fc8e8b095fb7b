"""The number format of every weight: from the recipe's format and overrides, or from the source.

Follows ModelOpt's presets: linear layers only; head, routers, embeddings, norms, vision and multi-token
prediction layers stay as they are. A source that is quantized already is read in `prequantized`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.formats import format_table
from bwdeploy.planner.weights import storage
from bwdeploy.planner.weights.module_patterns import split_group
from bwdeploy.planner.weights.prequantized import source_storage
from bwdeploy.recipe.schema import FormatSearch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bwdeploy.facts.formats import FormatFacts
    from bwdeploy.model.shape import ModelShape, Role, Weight
    from bwdeploy.planner.weights.storage import Storage
    from bwdeploy.recipe.schema import FormatOverride, Quantize, Recipe

_EXPERTS: frozenset[Role] = frozenset({"expert"})
_MLP: frozenset[Role] = frozenset({"ffn", "expert", "shared_expert"})
_SCOPES: dict[str, frozenset[Role]] = {
    "all": _MLP | {"attention", "attention_output", "modulation"},
    "mlp": _MLP,
    "mlp and attention output": _MLP | {"attention_output"},
    "routed experts": _EXPERTS,
}
"""What `modules` of a format covers."""


class StoredWeight(NamedTuple):
    """A group of tensors, or a part of one, in one format."""

    weight: Weight
    storage: Storage

    @property
    def checkpoint_bytes(self) -> int:
        """Of all its tensors in the checkpoint."""
        one = storage.checkpoint_bytes(self.storage, self.weight.rows, self.weight.columns)
        return one * self.weight.tensors


def weight_precisions(
    recipe: Recipe, shape: ModelShape, quantization: Mapping[str, Any] | None
) -> tuple[StoredWeight, ...]:
    """The format of every weight of the checkpoint that will be served.

    `quantization` is what the source says of its own; it counts when the recipe leaves the source as it is.
    """
    quantize = recipe.quantize
    unquantized = storage.plain(shape.dtype)
    if not quantize.quantizes:
        parts = source_storage(shape.weights, quantization or {})
        found = (StoredWeight(part, said or unquantized) for part, said in parts)
        return tuple(_folded(part, shape) for part in found)
    if quantize.format is None:
        bound = search_bound(quantize)
        if bound is None:
            return tuple(StoredWeight(weight, unquantized) for weight in shape.weights)
        quantize = quantize.model_copy(update={"format": bound})
    return tuple(
        _folded(part, shape) for weight in shape.weights for part in _parts(weight, quantize, unquantized)
    )


def search_bound(quantize: Quantize) -> str | None:
    """The smallest searched format that a whole model within the search's budget of bits cannot exceed.

    None when nothing is searched, or when the budget allows more than any of its formats.
    """
    if quantize.method != "auto":
        return None
    search = quantize.search or FormatSearch()
    bits = {word: format_table().formats[word].bits_per_weight for word in search.formats}
    enough = [word for word in bits if bits[word] >= search.effective_bits]
    return min(enough, key=lambda word: bits[word], default=None)


def format_storage(word: str, *, calibrated: bool = False) -> Storage:
    """The storage behind a word of `quantize.format`.

    `calibrated`: inputs are measured although the format does not need it, because something else does.
    """
    facts = format_table().formats[word]
    inputs = int(facts.activations != "none" and (facts.calibrated or calibrated))
    if facts.quant_algo == "NVFP4_AWQ":
        return storage.nvfp4_awq(facts.group_size or 16)
    if facts.weights == "nvfp4":
        return storage.nvfp4(facts.group_size or 16, scalars=1 + inputs)
    if facts.weights == "mxfp4":
        return storage.mxfp4(scalars=inputs)
    if facts.group_size is not None:
        return storage.fp8_block(facts.group_size, facts.group_size)
    return storage.fp8(scalars=1 + inputs) if facts.calibrated else storage.fp8_row()


def may_be_quantized(weight: Weight) -> bool:
    """Whether a preset can touch it at all."""
    return weight.is_linear and weight.role in _SCOPES["all"] and not weight.mtp


def _parts(weight: Weight, quantize: Quantize, unquantized: Storage) -> tuple[StoredWeight, ...]:
    if not may_be_quantized(weight) or quantize.format is None:
        return (StoredWeight(weight, unquantized),)
    facts = format_table().formats[quantize.format]
    in_scope = _in_scope(weight, facts, quantize.format, calibrated=quantize.kv_cache != "none")
    parts = [StoredWeight(weight, in_scope or unquantized)]
    for override in quantize.overrides:
        parts = [piece for part in parts for piece in _overridden(part, override, unquantized)]
    return tuple(parts)


def _in_scope(weight: Weight, facts: FormatFacts, word: str, *, calibrated: bool) -> Storage | None:
    if weight.role not in _SCOPES[facts.modules]:
        return None
    return format_storage(word, calibrated=calibrated)


def _folded(part: StoredWeight, shape: ModelShape) -> StoredWeight:
    """Without the input scales that ModelOpt folds into the norm or matrix before: all but one.

    An output projection's inputs are more than the rows of v_proj when KV heads are shared.
    """
    weight, stored = part
    if not stored.column_scale_bytes:
        return part
    attention = shape.layers[weight.layers[0]].attention if weight.layers and shape.layers else None
    shared = attention is not None and attention.heads != attention.kv_heads
    if weight.role == "attention_output" and shared:
        return part
    return StoredWeight(weight, stored._replace(column_scale_bytes=0))


def _overridden(part: StoredWeight, override: FormatOverride, unquantized: Storage) -> list[StoredWeight]:
    chosen = unquantized if override.format == "none" else format_storage(override.format)
    return [
        StoredWeight(weight, chosen if named else part.storage)
        for weight, named in split_group(part.weight, override.modules)
    ]
