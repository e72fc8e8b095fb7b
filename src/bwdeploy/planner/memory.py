"""Memory of one GPU that serves the model: weights, KV cache, activations. Pure arithmetic, nothing measured.

Weights and KV bytes follow from the shape alone. Activations are a bound for one layer of a full step plus
the logits; CUDA graphs and communication buffers are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bwdeploy.facts.formats import format_table
from bwdeploy.facts.gpus import find_gpu

if TYPE_CHECKING:
    from bwdeploy.planner.shape import ModelShape
    from bwdeploy.recipe.schema import Layout, Quantize, Recipe

_BF16_BITS = 16.0
_BF16_BYTES = 2
_LOGIT_BYTES = 4
_GIB = 2**30
_DEFAULT_KV_FRACTION = 0.9
"""TensorRT-LLM's kv_cache_config.free_gpu_memory_fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """One GPU."""

    weights_bytes: int
    kv_bytes: int
    """For max_batch_size requests of max_seq_len tokens."""
    activation_bytes: int
    capacity_bytes: int | None
    """None when the recipe names no GPU."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """The whole deployment; every GPU is alike in a dense model but for uneven pipeline stages."""

    per_gpu: tuple[GpuMemory, ...]
    kv_bytes_per_token: int
    """Over all GPUs."""
    max_tokens_in_kv: int | None
    """What fits into the memory left over; None when the recipe names no GPU."""


def plan_memory(recipe: Recipe, shape: ModelShape) -> MemoryPlan:
    """The memory of every GPU of the recipe's layout."""
    layout = recipe.layout
    gpus = tuple(
        _gpu_memory(recipe, shape, layers)
        for layers in _layers_by_stage(shape, layout)
        for _ in range(layout.tp)
    )
    per_token_and_gpu = [
        _kv_bytes_per_token(recipe.quantize, shape, layout.tp, layers)
        for layers in _layers_by_stage(shape, layout)
        for _ in range(layout.tp)
    ]
    return MemoryPlan(
        per_gpu=gpus,
        kv_bytes_per_token=sum(per_token_and_gpu),
        max_tokens_in_kv=_max_tokens(gpus, per_token_and_gpu),
    )


def _gpu_memory(recipe: Recipe, shape: ModelShape, layers: int) -> GpuMemory:
    layout, engine = recipe.layout, recipe.engine
    tokens = engine.max_batch_size * engine.max_seq_len
    return GpuMemory(
        weights_bytes=_weight_bytes(recipe.quantize, shape, layout.tp, layers),
        kv_bytes=tokens * _kv_bytes_per_token(recipe.quantize, shape, layout.tp, layers),
        activation_bytes=_activation_bytes(recipe, shape),
        capacity_bytes=_capacity_bytes(layout),
    )


def _weight_bytes(quantize: Quantize, shape: ModelShape, tp: int, layers: int) -> int:
    """Matrices are split over tp ranks, vectors are not; embedding and head are split by vocabulary."""
    attention_bits, mlp_bits = _bits(quantize)
    matrices = layers * (shape.attention_elements * attention_bits + shape.mlp_elements * mlp_bits) / 8 / tp
    vectors = shape.vector_elements * layers // max(1, shape.layers) * _BF16_BYTES
    return int(matrices) + vectors + shape.embedding_elements * _BF16_BYTES // tp


def _bits(quantize: Quantize) -> tuple[float, float]:
    """Bits of an attention and of an MLP weight, scales included."""
    if quantize.method != "ptq" or quantize.format is None:
        return _BF16_BITS, _BF16_BITS
    facts = format_table().formats[quantize.format]
    match facts.modules:
        case "all":
            return facts.bits_per_weight, facts.bits_per_weight
        case "mlp":
            return _BF16_BITS, facts.bits_per_weight
        case _:  # part of attention, or experts that a dense model does not have: count the larger size
            return _BF16_BITS, facts.bits_per_weight


def _kv_bytes_per_token(quantize: Quantize, shape: ModelShape, tp: int, layers: int) -> int:
    """K and V of every layer; with more ranks than KV heads, heads are held several times."""
    heads = max(1, -(-shape.kv_heads // tp))
    values = 2 * layers * heads * shape.head_dim
    if quantize.kv_cache == "none":
        return values * _BF16_BYTES
    return int(values * format_table().kv_cache[quantize.kv_cache].bits_per_value / 8)


def _activation_bytes(recipe: Recipe, shape: ModelShape) -> int:
    """A step's widest moment: residual, normed input and the two MLP halves, then logits of the batch."""
    tp = recipe.layout.tp
    step = recipe.engine.max_num_tokens * (4 * shape.hidden + 2 * shape.ffn // tp) * _BF16_BYTES
    return step + recipe.engine.max_batch_size * shape.vocab * _LOGIT_BYTES


def _capacity_bytes(layout: Layout) -> int | None:
    gpu = find_gpu(layout.gpu) if layout.gpu else None
    return int(gpu.memory_visible_gib * _GIB) if gpu else None


def _layers_by_stage(shape: ModelShape, layout: Layout) -> list[int]:
    """The first (layers mod pp) pipeline stages hold one layer more, as in TensorRT-LLM's mapping."""
    whole, rest = divmod(shape.layers, layout.pp)
    return [whole + (1 if stage < rest else 0) for stage in range(layout.pp)]


def _max_tokens(gpus: tuple[GpuMemory, ...], bytes_per_token: list[int]) -> int | None:
    """The GPU with the least room decides."""
    room = []
    for gpu, per_token in zip(gpus, bytes_per_token, strict=True):
        if gpu.capacity_bytes is None:
            return None
        free = gpu.capacity_bytes - gpu.weights_bytes - gpu.activation_bytes
        room.append(max(0, int(free * _DEFAULT_KV_FRACTION)) // max(1, per_token))
    return min(room)
