"""Memory of one GPU: its share of the weights, its cache, and what else lies there while it serves.

The cache is TensorRT-LLM's: a share of what weights and profiling leave. See `memory` for the deployment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.gpus import find_gpu
from bwdeploy.planner.memory.activations import (
    RUNTIME_BYTES,
    absorbed_bytes,
    activation_bytes,
    communication_bytes,
    graph_bytes_limit,
)
from bwdeploy.planner.memory.kv_cache import cached_layers, request_bytes
from bwdeploy.planner.memory.settings import expert_slots, kv_settings
from bwdeploy.planner.memory.sharding import layers_held, share
from bwdeploy.planner.weights.storage import gpu_bytes

if TYPE_CHECKING:
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.memory.diffusion import PipelineMemory
    from bwdeploy.planner.memory.draft import DraftPlan
    from bwdeploy.planner.memory.kv_cache import CachedLayer, KvFormat
    from bwdeploy.planner.memory.sharding import Stage
    from bwdeploy.planner.weights.precision import StoredWeight
    from bwdeploy.recipe.schema import Recipe

_GIB = 2**30


class RoleBytes(NamedTuple):
    """Weights of one module class in one format, on one GPU."""

    role: str
    format: str
    bytes: int


class GpuMemory(NamedTuple):
    """One GPU."""

    stage: int
    """Its pipeline stage, from 0."""
    weights_bytes: int
    """Without the draft."""
    draft_bytes: int
    kv_bytes: int
    """For max_batch_size requests of max_seq_len tokens, windows applied."""
    kv_pool_bytes: int | None
    """What TensorRT-LLM's cache manager takes; None when the recipe names no GPU."""
    activation_bytes: int
    cuda_graph_bytes: int
    """At most; never more than the cache leaves."""
    communication_bytes: int
    runtime_bytes: int
    capacity_bytes: int | None
    """What the driver shows; None when the recipe names no GPU."""
    kv_bytes_per_token: int
    """The draft's layers included."""
    kv_request_bytes: int
    """Of one request of max_seq_len tokens."""
    by_role: tuple[RoleBytes, ...]

    @property
    def fixed_bytes(self) -> int:
        """Everything that is there before the KV cache is made."""
        runtime = self.communication_bytes + self.runtime_bytes
        return self.weights_bytes + self.draft_bytes + self.activation_bytes + runtime

    @property
    def total_bytes(self) -> int:
        """In use while serving: with the cache that TensorRT-LLM takes, or a full batch's without a GPU."""
        cache = self.kv_bytes if self.kv_pool_bytes is None else self.kv_pool_bytes
        return self.fixed_bytes + cache + self.cuda_graph_bytes

    @property
    def required_bytes(self) -> int:
        """With cache for a full batch of the longest requests, however much there is."""
        return self.fixed_bytes + self.kv_bytes + self.cuda_graph_bytes


class StoredModel(NamedTuple):
    """A model in its formats, before it is spread over GPUs."""

    shape: ModelShape
    stored: tuple[StoredWeight, ...]
    cache: KvFormat
    draft: DraftPlan | None


def serving_gpu(recipe: Recipe, model: StoredModel, stage: Stage, number: int) -> GpuMemory:
    """A GPU of one pipeline stage; its tensor parallel ranks are alike."""
    engine, layout, shape = recipe.engine, recipe.layout, model.shape
    by_role = _weights_on(recipe, model, stage)
    cached = _cached_on(recipe, model, stage)
    request = request_bytes(cached, engine.max_seq_len, kv_settings(recipe))
    layers = stage.layers if shape.layers else range(0)
    gpu = GpuMemory(
        stage=number,
        weights_bytes=sum(row.bytes for row in by_role),
        draft_bytes=_draft_bytes(recipe, model, stage),
        kv_bytes=engine.max_batch_size * request,
        kv_pool_bytes=None,
        activation_bytes=activation_bytes(recipe, shape),
        cuda_graph_bytes=graph_bytes_limit(recipe),
        communication_bytes=communication_bytes(layout.tp * layout.pp),
        runtime_bytes=RUNTIME_BYTES + absorbed_bytes(shape, layers, layout),
        capacity_bytes=capacity_bytes(recipe),
        kv_bytes_per_token=sum(layer.bytes_per_token for layer in cached),
        kv_request_bytes=request,
        by_role=by_role,
    )
    return _with_cache(recipe, gpu)


def pipeline_gpu(recipe: Recipe, pipeline: PipelineMemory) -> GpuMemory:
    """The GPU of a diffusion pipeline, everything loaded; it has no KV cache."""
    return GpuMemory(
        stage=0,
        weights_bytes=pipeline.weights_bytes,
        draft_bytes=0,
        kv_bytes=0,
        kv_pool_bytes=None,
        activation_bytes=pipeline.scratch_bytes,
        cuda_graph_bytes=0,
        communication_bytes=0,
        runtime_bytes=0,
        capacity_bytes=capacity_bytes(recipe),
        kv_bytes_per_token=0,
        kv_request_bytes=0,
        by_role=tuple(RoleBytes(part.name, part.format, part.weights_bytes) for part in pipeline.components),
    )


def capacity_bytes(recipe: Recipe) -> int | None:
    """Memory of one of the recipe's GPUs, as the driver shows it."""
    gpu = find_gpu(recipe.layout.gpu) if recipe.layout.gpu else None
    return int(gpu.memory_visible_gib * _GIB) if gpu else None


def _weights_on(recipe: Recipe, model: StoredModel, stage: Stage) -> tuple[RoleBytes, ...]:
    found: dict[tuple[str, str], int] = {}
    for part in model.stored:
        if part.weight.mtp:
            continue
        size = _bytes_on(recipe, model.shape, part, stage)
        if size:
            row = (part.weight.role, part.storage.name)
            found[row] = found.get(row, 0) + size
    if model.shape.tied_embeddings and stage.is_last and not stage.is_first:
        # The last stage needs the embedding too, as its head (keep_embed_tokens in modeling_utils.py).
        first = stage._replace(is_first=True)
        tables = [part for part in model.stored if part.weight.role == "embedding"]
        found["head", model.shape.dtype] = sum(_bytes_on(recipe, model.shape, part, first) for part in tables)
    return tuple(RoleBytes(role, name, size) for (role, name), size in found.items())


def _bytes_on(recipe: Recipe, shape: ModelShape, part: StoredWeight, stage: Stage) -> int:
    held = layers_held(part.weight, stage)
    if not held:
        return 0
    mine = share(part.weight, shape=shape, layout=recipe.layout, slots=expert_slots(recipe))
    return gpu_bytes(part.storage, mine.rows, mine.columns) * mine.copies * held


def _draft_bytes(recipe: Recipe, model: StoredModel, stage: Stage) -> int:
    if model.draft is None:
        return 0
    shape = model.draft.shape
    return sum(_bytes_on(recipe, shape, part, stage) for part in model.draft.weights)


def _cached_on(recipe: Recipe, model: StoredModel, stage: Stage) -> tuple[CachedLayer, ...]:
    windows = kv_settings(recipe).windows
    own = [(index, model.shape.layers[index].attention) for index in stage.layers if model.shape.layers]
    drafted = [(0, attention) for attention in model.draft.attention] if model.draft and stage.is_last else []
    return (
        *cached_layers(own, model.cache, recipe.layout, windows),
        *cached_layers(drafted, model.cache, recipe.layout, ()),
    )


def _with_cache(recipe: Recipe, gpu: GpuMemory) -> GpuMemory:
    """The pool is a share of what is left; graphs, captured later, take from what the pool leaves.

    Source: tensorrt_llm/_torch/pyexecutor/_util.py, KvCacheCreator.
    """
    if gpu.capacity_bytes is None:
        return gpu
    settings = kv_settings(recipe)
    left = max(0, gpu.capacity_bytes - gpu.fixed_bytes)
    limits = [int(left * settings.fraction)]
    if settings.max_tokens is not None:
        limits.append(settings.max_tokens * gpu.kv_bytes_per_token)
    if settings.max_bytes is not None:
        limits.append(settings.max_bytes)
    pool = min(limits) if gpu.kv_bytes_per_token else 0
    return gpu._replace(kv_pool_bytes=pool, cuda_graph_bytes=min(gpu.cuda_graph_bytes, left - pool))
