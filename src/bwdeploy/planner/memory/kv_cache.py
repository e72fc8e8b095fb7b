"""Bytes of the KV cache: per token, per layer, per GPU. Pure arithmetic on the shape.

A layer with grouped heads keeps keys and values of its heads; an MLA layer keeps one latent, whole on every
tensor parallel rank, so that only attention DP shards it. A sliding window or attention chunk counts as a
limit only where the runtime is told so (`kv_cache_config.max_attention_window`): without it TensorRT-LLM
keeps every token of every layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.memory.settings import kv_settings
from bwdeploy.planner.memory.sharding import kv_heads_per_gpu
from bwdeploy.planner.weights.prequantized import kv_cache_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from bwdeploy.model.shape import Attention
    from bwdeploy.planner.memory.settings import KvSettings
    from bwdeploy.recipe.schema import Layout, Recipe

_NVFP4_BLOCK = 16
_INDEX_BLOCK = 128
_FP32_BYTES = 4


class KvFormat(NamedTuple):
    """How a value of the cache is stored."""

    name: str
    bits: int
    block: int = 0
    """Values that share a one-byte scale; 0: no block scales."""

    def bytes_of(self, values: int) -> int:
        """Of so many values of one token, block scales included."""
        return -(-values * self.bits // 8) + (-(-values // self.block) if self.block else 0)


class CachedLayer(NamedTuple):
    """One layer's share of the cache on one GPU."""

    bytes_per_token: int
    window: int | None
    """Tokens that it keeps at most."""


def kv_format(recipe: Recipe, dtype: str, quantization: Mapping[str, Any] | None) -> KvFormat:
    """The cache's format: what the engine is told, else what the checkpoint brings scales for."""
    told = kv_settings(recipe).dtype
    quantizing = recipe.quantize.kv_cache if recipe.quantize.kv_cache != "none" else None
    word = told if told != "auto" else quantizing or kv_cache_word(quantization) or dtype
    match word:
        case "fp8":
            return KvFormat("fp8", 8)
        case "nvfp4":
            return KvFormat("nvfp4", 4, block=_NVFP4_BLOCK)
        case "float32":
            return KvFormat("float32", 32)
        case _:
            return KvFormat(dtype if word == "auto" else word, 16)


def whole_bytes_per_token(attention: Attention, stored: KvFormat) -> int:
    """One layer, one token, all heads once."""
    return _bytes_per_token(attention, stored, attention.kv_heads)


def gpu_bytes_per_token(attention: Attention, stored: KvFormat, layout: Layout) -> int:
    """One layer, one token, on one GPU."""
    return _bytes_per_token(attention, stored, kv_heads_per_gpu(attention, layout))


def cached_layers(
    layers: Sequence[tuple[int, Attention]], stored: KvFormat, layout: Layout, windows: tuple[int, ...]
) -> tuple[CachedLayer, ...]:
    """The layers of one GPU; each comes with its index in the model, which its window depends on."""
    return tuple(
        CachedLayer(
            gpu_bytes_per_token(attention, stored, layout),
            windows[index % len(windows)] if windows else None,
        )
        for index, attention in layers
    )


def request_bytes(layers: Iterable[CachedLayer], tokens: int, settings: KvSettings) -> int:
    """Of one request of so many tokens, in whole blocks."""
    return sum(
        layer.bytes_per_token * _whole_blocks(min(tokens, layer.window or tokens), settings.tokens_per_block)
        for layer in layers
    )


def _bytes_per_token(attention: Attention, stored: KvFormat, heads: int) -> int:
    if attention.kind == "none":
        return 0
    if attention.kind == "mla":
        return stored.bytes_of(attention.latent_dim) + _indexer_bytes(attention)
    return stored.bytes_of(heads * attention.head_dim) + stored.bytes_of(heads * attention.value_dim)


def _indexer_bytes(attention: Attention) -> int:
    """DeepSeek sparse attention keeps an FP8 key for its indexer, with an FP32 scale for each 128 values.

    Source: tensorrt_llm/_torch/attention_backend/sparse/dsa.py, DSACacheManager.
    """
    return attention.index_dim + attention.index_dim // _INDEX_BLOCK * _FP32_BYTES


def _whole_blocks(tokens: int, block: int) -> int:
    return -(-tokens // block) * block
