"""What would make a model fit: the smallest tp, pp or format that has room for one request.

Tries each alone, the rest of the recipe unchanged, by planning the memory again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.formats import format_table
from bwdeploy.facts.gpus import find_gpu
from bwdeploy.planner.memory import plan_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe

_MAX_TP = 64
_FORMATS = ("fp8", "nvfp4")
"""The two that most GPUs have kernels for, larger first."""


class Remedy(NamedTuple):
    """One change with which the model fits."""

    change: str
    """As it would be written: `tp: 4`."""
    weights_bytes: int
    """On the fullest GPU."""


def remedies(recipe: Recipe, described: DescribedModel) -> tuple[Remedy, ...]:
    """The smallest change of each kind that helps; empty when none does."""
    if described.shape is None:
        return ()
    kinds = (
        _tensor_parallel(recipe, described.shape),
        _pipeline_parallel(recipe, described.shape),
        _formats(recipe),
    )
    found = (_first_that_fits(changes, described) for changes in kinds)
    return tuple(remedy for remedy in found if remedy is not None)


def _first_that_fits(changes: Iterator[tuple[str, Recipe]], described: DescribedModel) -> Remedy | None:
    for change, changed in changes:
        memory = plan_memory(changed, described)
        if memory is not None and memory.fits:
            return Remedy(change, memory.fullest.weights_bytes)
    return None


def _tensor_parallel(recipe: Recipe, shape: ModelShape) -> Iterator[tuple[str, Recipe]]:
    layout = recipe.layout
    spread_experts = layout.ep > 1 or layout.attention_dp
    tp = 1 << layout.tp.bit_length()
    while tp <= _MAX_TP:
        if _heads_divide(shape, tp):
            ep = tp if spread_experts else layout.ep
            change = f"tp: {tp}" + (f" and ep: {ep}" if ep != layout.ep else "")
            yield change, _with_layout(recipe, tp=tp, ep=ep)
        tp *= 2


def _pipeline_parallel(recipe: Recipe, shape: ModelShape) -> Iterator[tuple[str, Recipe]]:
    if "pp_partition" in recipe.engine.llm_args:
        return
    for pp in range(recipe.layout.pp + 1, len(shape.layers) + 1):
        yield f"pp: {pp}", _with_layout(recipe, pp=pp)


def _formats(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    quantize = recipe.quantize
    gpu = find_gpu(recipe.layout.gpu) if recipe.layout.gpu else None
    if quantize.method == "prequantized" or quantize.recipe is not None:
        return
    for word in _FORMATS:
        if word != quantize.format and (gpu is None or gpu.sm in format_table().formats[word].sm):
            update = {"format": word, "method": "ptq" if quantize.method == "none" else quantize.method}
            changed = quantize.model_copy(update=update)
            yield f"quantize.format: {word}", recipe.model_copy(update={"quantize": changed})


def _heads_divide(shape: ModelShape, tp: int) -> bool:
    """As TensorRT-LLM needs them: whole attention heads, KV heads whole or held several times."""
    grouped = (layer.attention for layer in shape.layers if layer.attention.kind == "gqa")
    return all(
        attention.heads % tp == 0 and (attention.kv_heads % tp == 0 or tp % attention.kv_heads == 0)
        for attention in set(grouped)
    )


def _with_layout(recipe: Recipe, **update: int) -> Recipe:
    return recipe.model_copy(update={"layout": recipe.layout.model_copy(update=update)})
