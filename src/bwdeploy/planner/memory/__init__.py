"""Memory of every GPU that serves the model: weights, KV cache, activations, draft, buffers. Not measured.

Weights and KV bytes follow from the shape and the formats; activations are a bound; graphs, communication
and the runtime's own share are upstream figures. TensorRT-LLM gives its KV cache a share of what weights and
profiling leave, so a GPU in use is nearly full: `kv_pool_bytes` says with how much cache, `kv_bytes` what a
full batch of the longest requests would need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.memory.activations import graph_bytes_limit
from bwdeploy.planner.memory.checkpoint import Checkpoint, estimated_checkpoint_bytes, header_bytes
from bwdeploy.planner.memory.gpu import GpuMemory, StoredModel, pipeline_gpu, serving_gpu
from bwdeploy.planner.memory.kv_cache import kv_format, whole_bytes_per_token
from bwdeploy.planner.memory.notes import memory_notes
from bwdeploy.planner.memory.settings import drafting, graph_batch_sizes, kv_settings, pipeline_partition
from bwdeploy.planner.memory.sharding import pipeline_stages
from bwdeploy.planner.weights.precision import weight_precisions
from bwdeploy.planner.weights.prequantized import kv_cache_word

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.memory.diffusion import PipelineMemory
    from bwdeploy.planner.memory.draft import DraftPlan
    from bwdeploy.planner.memory.gpu import RoleBytes
    from bwdeploy.planner.weights.precision import StoredWeight
    from bwdeploy.recipe.schema import Recipe


class MemoryPlan(NamedTuple):
    """The whole deployment."""

    per_gpu: tuple[GpuMemory, ...]
    """In rank order: tensor parallel ranks of the first pipeline stage, then of the next."""
    kv_format: str
    kv_bytes_per_token: int
    """One token in one copy of the model's cache, without the draft's."""
    kv_bytes_per_token_per_gpu: int
    """On the GPU with the most, the draft's layers included."""
    kv_bytes_per_token_all_gpus: int
    """Over all GPUs; what is held several times counts each time."""
    max_tokens_in_kv: int | None
    """What fits over the whole deployment; None when the recipe names no GPU."""
    max_requests: int | None
    """Requests of max_seq_len tokens that fit at once, over the whole deployment."""
    checkpoint: Checkpoint
    cuda_graphs: int
    cuda_graph_limit_bytes: int
    """What so many graphs take at most, on each GPU."""
    notes: tuple[str, ...]
    """Assumptions and choices, for a person."""
    pipeline: PipelineMemory | None = None
    """Of a diffusion model: its engines, and what it takes with one loaded at a time."""

    @property
    def checkpoint_bytes(self) -> int:
        """Of the served checkpoint; read from its files where they are on this machine."""
        return self.checkpoint.bytes

    @property
    def by_role(self) -> tuple[RoleBytes, ...]:
        """Weights of the fullest GPU."""
        return self.fullest.by_role

    @property
    def fits(self) -> bool:
        """Whether weights and at least one request have room, or no GPU is named."""
        if self.max_requests is not None:
            return self.max_requests > 0
        return all(
            gpu.capacity_bytes is None or gpu.fixed_bytes <= gpu.capacity_bytes for gpu in self.per_gpu
        )

    @property
    def fullest(self) -> GpuMemory:
        """The GPU with the least room for a cache."""
        return max(self.per_gpu, key=lambda gpu: gpu.fixed_bytes)

    @property
    def distinct_gpus(self) -> tuple[tuple[GpuMemory, int], ...]:
        """Each different GPU once, with how many are like it."""
        counts: dict[GpuMemory, int] = {}
        for gpu in self.per_gpu:
            same = gpu._replace(stage=0)
            counts[same] = counts.get(same, 0) + 1
        return tuple(counts.items())


def plan_memory(
    recipe: Recipe, described: DescribedModel, *, checkpoint: Path | None = None
) -> MemoryPlan | None:
    """The memory of every GPU of the recipe's layout.

    `checkpoint` is a built checkpoint's directory, whose headers then replace the estimate. None while the
    shape is not known, and for a layout with more pipeline stages than layers.
    """
    shape, layout = described.shape, recipe.layout
    if shape is None:
        return None
    stages = pipeline_stages(_layer_count(shape), layout.pp, pipeline_partition(recipe))
    if not stages:
        return None
    stored = weight_precisions(recipe, shape, described.quantization)
    cache = kv_format(recipe, shape.dtype, described.quantization)
    drafts = _draft(recipe, shape, stored)
    model = StoredModel(shape, stored, cache, drafts)
    pipeline = _pipeline(model)
    if pipeline is not None:
        per_stage = [pipeline_gpu(recipe, pipeline)]
    else:
        per_stage = [serving_gpu(recipe, model, stage, number) for number, stage in enumerate(stages)]
    per_gpu = tuple(gpu for gpu in per_stage for _ in range(1 if pipeline else layout.tp))
    found = _checkpoint(recipe, described, model, checkpoint)
    return MemoryPlan(
        per_gpu=per_gpu,
        kv_format=cache.name,
        kv_bytes_per_token=sum(whole_bytes_per_token(layer.attention, cache) for layer in shape.layers),
        kv_bytes_per_token_per_gpu=max(gpu.kv_bytes_per_token for gpu in per_stage),
        kv_bytes_per_token_all_gpus=_all_gpus_per_token(recipe, per_stage),
        max_tokens_in_kv=_max_tokens(recipe, per_stage),
        max_requests=_max_requests(recipe, per_stage),
        checkpoint=found,
        cuda_graphs=0 if pipeline else len(graph_batch_sizes(recipe)),
        cuda_graph_limit_bytes=0 if pipeline else graph_bytes_limit(recipe),
        notes=memory_notes(recipe, described, drafts.notes if drafts else (), found),
        pipeline=pipeline,
    )


def _pipeline(model: StoredModel) -> PipelineMemory | None:
    """FLUX runs in TensorRT engines of its own, not in TensorRT-LLM."""
    if model.shape.kind != "diffusion":
        return None
    from bwdeploy.planner.memory.diffusion import plan_pipeline  # noqa: PLC0415 - few recipes need it

    return plan_pipeline(model.shape, model.stored)


def _draft(recipe: Recipe, shape: ModelShape, stored: tuple[StoredWeight, ...]) -> DraftPlan | None:
    if drafting(recipe) is None:
        return None
    from bwdeploy.planner.memory.draft import plan_draft  # noqa: PLC0415 - few recipes draft

    return plan_draft(recipe, shape, stored)


def _layer_count(shape: ModelShape) -> int:
    """Of the model without its draft; a shape read from headers knows its layers by their weights only."""
    named = (max(weight.layers) + 1 for weight in shape.weights if weight.layers and not weight.mtp)
    return len(shape.layers) or max(named, default=1)


def _copies(recipe: Recipe) -> int:
    """Independent caches of the deployment: each attention DP rank serves its own requests."""
    return recipe.layout.tp if recipe.layout.attention_dp else 1


def _max_tokens(recipe: Recipe, gpus: Iterable[GpuMemory]) -> int | None:
    """The stage with the least room decides; in whole blocks."""
    settings = kv_settings(recipe)
    block = settings.tokens_per_block
    room: list[int] = []
    for gpu in gpus:
        if gpu.kv_pool_bytes is None:
            return None
        if gpu.kv_request_bytes:
            longest = -(-recipe.engine.max_seq_len // block) * block
            room.append(gpu.kv_pool_bytes * longest // gpu.kv_request_bytes // block * block)
    return min(room) * _copies(recipe) if room else None


def _max_requests(recipe: Recipe, gpus: Iterable[GpuMemory]) -> int | None:
    room = [
        gpu.kv_pool_bytes // gpu.kv_request_bytes
        for gpu in gpus
        if gpu.kv_pool_bytes is not None and gpu.kv_request_bytes
    ]
    return min(room) * _copies(recipe) if room else None


def _all_gpus_per_token(recipe: Recipe, gpus: Iterable[GpuMemory]) -> int:
    """Under attention DP one token lies on one rank of each stage, else on every rank."""
    ranks = 1 if recipe.layout.attention_dp else recipe.layout.tp
    return sum(gpu.kv_bytes_per_token for gpu in gpus) * ranks


def _checkpoint(
    recipe: Recipe, described: DescribedModel, model: StoredModel, directory: Path | None
) -> Checkpoint:
    served_as_is = recipe.quantize.method in {"none", "prequantized"}
    source = described.directory if served_as_is and described.quantization else None
    place = directory or source
    brings = recipe.quantize.kv_cache != "none" or kv_cache_word(described.quantization) is not None
    return Checkpoint(
        estimated_bytes=estimated_checkpoint_bytes(
            model.stored, model.shape, model.cache, brings_kv_scales=brings
        ),
        header_bytes=header_bytes(place) if place else None,
    )
