"""What one model costs in each step whatever the layout: bytes that are read, operations, the KV cache.

Sums over the weights in the formats that the recipe gives them; multi-token prediction layers and the
embedding's lookup are left out. How long it takes is `roofline`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.formats import format_table
from bwdeploy.planner.memory.kv_cache import kv_format
from bwdeploy.planner.weights.precision import weight_precisions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.memory.kv_cache import KvFormat
    from bwdeploy.planner.weights.precision import StoredWeight
    from bwdeploy.planner.weights.storage import Storage
    from bwdeploy.recipe.schema import Recipe

Math = Literal["fp4", "fp8", "bf16"]
"""The tensor core format of products."""

_BY_STORAGE: dict[str, Math] = {
    "nvfp4": "fp4",
    "mxfp4": "fp8",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "fp8_row": "fp8",
}
"""MXFP4 weights (gpt-oss) are multiplied with 8-bit activations."""
_BY_ACTIVATIONS: dict[str, Math] = {"none": "bf16", "fp8": "fp8"}


class Work(NamedTuple):
    """What one model costs."""

    shape: ModelShape
    kv: KvFormat
    split_bytes: float
    """Read in each step; cut by tensor parallelism unless attention is data parallel."""
    whole_bytes: float
    """Read in each step by every rank."""
    expert_bytes: float
    """Of all routed experts."""
    flops: Mapping[Math, float]
    """Of the linear layers for one token; routed experts count as often as a token meets them."""


def recipe_work(recipe: Recipe, shape: ModelShape, quantization: Mapping[str, Any] | None) -> Work:
    """The work of a recipe's model; `quantization` is what its source says of its own."""
    stored = weight_precisions(recipe, shape, quantization)
    return work_of(
        shape, stored, kv=kv_format(recipe, shape.dtype, quantization), activations=_activations(recipe)
    )


def work_of(
    shape: ModelShape, stored: Iterable[StoredWeight], *, kv: KvFormat, activations: str = ""
) -> Work:
    """Sum up; `activations` is the format that quantized layers compute in when it is not the weights'."""
    split = whole = experts = 0.0
    flops: dict[Math, float] = {"fp4": 0.0, "fp8": 0.0, "bf16": 0.0}
    for weight, storage in stored:
        if weight.mtp or weight.role in {"embedding", "vision"}:
            continue
        size = weight.elements * storage.bits_per_value / 8
        share = 1.0
        if weight.role == "expert":
            experts += size
            ffn = shape.layers[weight.layers[0]].ffn
            share = ffn.experts_per_token / max(1, ffn.experts)
        elif weight.split == "none":
            whole += size
        else:
            split += size
        if weight.columns > 1:
            flops[_math(storage, activations)] += 2.0 * weight.elements * share
    return Work(shape, kv, split, whole, experts, flops)


def _math(storage: Storage, activations: str) -> Math:
    by_weights = _BY_STORAGE.get(storage.name, "bf16")
    return by_weights if by_weights == "bf16" else _BY_ACTIVATIONS.get(activations, by_weights)


def _activations(recipe: Recipe) -> str:
    word = recipe.quantize.format
    return format_table().formats[word].activations if word else ""
