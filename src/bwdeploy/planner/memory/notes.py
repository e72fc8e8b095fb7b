"""What a memory plan assumes or chooses, in words for a person. Says nothing that the figures say already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.facts.gpus import find_gpu
from bwdeploy.planner.memory.settings import graph_batch_sizes, kv_settings
from bwdeploy.planner.memory.sharding import attention_ways
from bwdeploy.planner.weights.precision import search_bound
from bwdeploy.planner.weights.prequantized import unread_quantization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.memory.checkpoint import Checkpoint
    from bwdeploy.recipe.schema import Recipe

_WINDOW_KEYS = {
    "pytorch": "kv_cache_config.max_attention_window",
    "tensorrt": "serve.engine_parameters.max_attention_window_size",
}
_PIPELINE = (
    "a whole FLUX pipeline for one 1024×1024 image: the transformer, T5-XXL, CLIP-L and the image decoder as "
    "TensorRT engines; the transformer's modulation, the text encoders and the decoder are not quantized"
)


def memory_notes(
    recipe: Recipe, described: DescribedModel, draft_notes: tuple[str, ...], checkpoint: Checkpoint
) -> tuple[str, ...]:
    """Every assumption and choice behind a plan."""
    shape = described.shape
    if shape is None:
        return ()
    if shape.kind == "diffusion":
        return (_PIPELINE, *_format_notes(recipe, described), *_checkpoint_notes(checkpoint))
    return (
        *shape.assumptions,
        *_format_notes(recipe, described),
        *_cache_notes(recipe, shape),
        *_layout_notes(recipe),
        *draft_notes,
        *_checkpoint_notes(checkpoint),
    )


def _format_notes(recipe: Recipe, described: DescribedModel) -> Iterator[str]:
    quantize, said = recipe.quantize, described.quantization
    dtype = described.shape.dtype if described.shape else ""
    if quantize.method == "auto":
        bound = search_bound(quantize) or dtype
        yield f"the search decides the format of each layer: counted in {bound}, an upper bound"
    elif quantize.quantizes and quantize.format is None:
        yield f"the formats stand in a ModelOpt recipe: counted in {dtype}, an upper bound"
    if quantize.method == "prequantized" and not said:
        yield f"what the source says of its quantization is not on this machine: counted in {dtype}"
    if not quantize.quantizes and unread_quantization(said):
        yield f"the source's quantization is of a kind that is not known here: counted in {dtype}"


def _cache_notes(recipe: Recipe, shape: ModelShape) -> Iterator[str]:
    settings = kv_settings(recipe)
    spans = sorted({layer.attention.span for layer in shape.layers if layer.attention.span})
    if spans and not settings.windows and spans[0] < recipe.engine.max_seq_len:
        limited = sum(1 for layer in shape.layers if layer.attention.span)
        yield (
            f"{limited} of {len(shape.layers)} layers look back on {spans[0]} tokens only, but keep all: "
            f"{_WINDOW_KEYS[recipe.engine.backend]} is not set"
        )
    heads = max(
        (layer.attention.kv_heads for layer in shape.layers if layer.attention.kind == "gqa"), default=0
    )
    ways = attention_ways(recipe.layout)
    if heads and ways > heads:
        yield f"{heads} KV heads on {ways} ranks: each is held {ways // heads} times"
    if ways > 1 and any(layer.attention.kind == "mla" for layer in shape.layers):
        yield f"every one of {ways} ranks holds the whole latent cache; attention DP would shard it"


def _layout_notes(recipe: Recipe) -> Iterator[str]:
    gpu = find_gpu(recipe.layout.gpu) if recipe.layout.gpu else None
    if gpu is not None and gpu.unified_memory:
        yield (
            f"{gpu.id} shares its {gpu.memory_visible_gib} GiB with the CPU: what the system and other "
            "programs use is missing here (read MemAvailable in /proc/meminfo; nvidia-smi shows none)"
        )
    if recipe.serve.runtime == "reference":
        yield "counted as TensorRT-LLM would serve it; the reference runtime has no cache pool"
    graphs = len(graph_batch_sizes(recipe))
    if graphs:
        many = f"{graphs} CUDA graphs" if graphs > 1 else "one CUDA graph"
        yield f"{many} of up to 200 MB each, outside the KV cache's share"


def _checkpoint_notes(checkpoint: Checkpoint) -> Iterator[str]:
    error = checkpoint.estimate_error
    if error is not None:
        yield (
            f"the checkpoint's files hold {checkpoint.bytes / 1e9:.3f} GB by their headers; "
            f"the estimate was {error:+.2%}"
        )
