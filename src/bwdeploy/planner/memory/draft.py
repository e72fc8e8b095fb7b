"""The draft of speculative decoding: its weights and its own KV cache on the last pipeline stage.

Multi-token prediction layers are part of the checkpoint. An EAGLE3 draft is read from its own configuration
where that is on this machine, or is as the recipe trains it; else it is assumed to be one bfloat16 layer
shaped like the target's. Heads inside an engine are described in `draft_heads`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.speculation import HEADS
from bwdeploy.facts.versions import parse_version
from bwdeploy.model.describe import describe_source
from bwdeploy.model.shape import Attention, FeedForward, Layer, Weight
from bwdeploy.planner.memory.settings import drafting
from bwdeploy.planner.weights import storage
from bwdeploy.planner.weights.precision import StoredWeight
from bwdeploy.recipe.schema import DraftTraining

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe, Speculative

_LAST_OVERSIZED = parse_version("1.3.0rc18")
"""Up to here the draft's cache was sized with one layer for each drafted token (TensorRT-LLM pull 15017)."""
_SHARED_WITH_TARGET = frozenset({"embedding", "head"})
_HEAD_DIM = 128
_KV_HEADS = 8


class DraftPlan(NamedTuple):
    """What drafting adds."""

    weights: tuple[StoredWeight, ...]
    shape: ModelShape
    """That the weights belong to: of the draft, or of the model itself."""
    attention: tuple[Attention, ...]
    """One for each layer that the draft's cache is sized with."""
    notes: tuple[str, ...]


def plan_draft(recipe: Recipe, shape: ModelShape, stored: Iterable[StoredWeight]) -> DraftPlan | None:
    """The draft of a recipe; None when nothing drafts."""
    method = drafting(recipe)
    if method is None:
        return None
    if method.method == "mtp":
        return _mtp(shape, stored)
    if recipe.speculative is not None and method.method in HEADS:
        return _heads(recipe, recipe.speculative, shape)
    eagle, note = _eagle(recipe, shape)
    oversized = _oversized_cache(recipe)
    layers = method.length if oversized else len(eagle.layers)
    attention = eagle.layers[0].attention if eagle.layers else Attention("none")
    sized = f"TensorRT-LLM {recipe.engine.tensorrt_llm} sizes the draft's KV cache with {layers} layers"
    return DraftPlan(
        weights=tuple(
            StoredWeight(weight._replace(mtp=True), storage.plain(eagle.dtype))
            for weight in eagle.weights
            if weight.role != "embedding"
        ),
        shape=eagle,
        attention=(attention,) * layers,
        notes=tuple(filter(None, (note, sized if oversized and layers > len(eagle.layers) else ""))),
    )


def _heads(recipe: Recipe, section: Speculative, shape: ModelShape) -> DraftPlan:
    from bwdeploy.planner.memory.draft_heads import plan_heads  # noqa: PLC0415 - few recipes have heads

    heads = plan_heads(recipe, section, shape)
    plain = storage.plain(shape.dtype)
    return DraftPlan(
        weights=tuple(StoredWeight(weight._replace(mtp=True), plain) for weight in heads.weights),
        shape=shape,
        attention=heads.attention,
        notes=(heads.note,),
    )


_ASSUMED = (
    "the draft's configuration is not on this machine: counted as one bfloat16 layer like the target's, "
    "with a head over the whole vocabulary and the target's embedding"
)


def _mtp(shape: ModelShape, stored: Iterable[StoredWeight]) -> DraftPlan:
    """The model's own layers; their copies of embedding and head are not loaded (modeling_deepseekv3.py)."""
    weights = tuple(
        part for part in stored if part.weight.mtp and part.weight.role not in _SHARED_WITH_TARGET
    )
    missing = () if shape.mtp_layers else ("the model has no multi-token prediction layers to draft with",)
    return DraftPlan(
        weights=weights,
        shape=shape,
        attention=tuple(layer.attention for layer in shape.mtp_layers),
        notes=missing,
    )


def _eagle(recipe: Recipe, shape: ModelShape) -> tuple[ModelShape, str]:
    """The draft's shape, and what is assumed of it."""
    section = recipe.speculative
    if section is not None and section.train is not None:
        return _eagle_like(shape, section.train), ""
    described = describe_source(section.draft).shape if section is not None and section.draft else None
    return (described, "") if described is not None else (_eagle_like(shape, DraftTraining()), _ASSUMED)


def _oversized_cache(recipe: Recipe) -> bool:
    version = parse_version(recipe.engine.tensorrt_llm)
    return version is not None and _LAST_OVERSIZED is not None and version <= _LAST_OVERSIZED


def _eagle_like(shape: ModelShape, training: DraftTraining) -> ModelShape:
    """Layers as wide as the target: attention, in the first over embedding and hidden state, FFN, head."""
    attention = next((layer.attention for layer in shape.layers if layer.attention.kind == "gqa"), None)
    if attention is None:
        heads = max(1, shape.hidden // _HEAD_DIM)
        attention = Attention("gqa", heads, min(heads, _KV_HEADS), _HEAD_DIM, _HEAD_DIM)
    dense = (layer.ffn for layer in shape.layers if layer.ffn.kind == "dense")
    like = next(dense, FeedForward("dense", width=4 * shape.hidden))
    ffn = like._replace(width=training.ffn_width or like.width)
    weights = (
        Weight("fc", "other", shape.hidden, 3 * shape.hidden),
        *_layer_weights(shape.hidden, attention, ffn, tuple(range(training.layers))),
        Weight("norms", "norm", (2 + 2 * training.layers) * shape.hidden, 1),
        Weight("lm_head", "head", training.draft_vocab or shape.vocab, shape.hidden, split="rows"),
    )
    return shape._replace(
        architecture="Eagle3",
        model_type="eagle3",
        layers=(Layer(attention._replace(span=None), ffn),) * training.layers,
        mtp_layers=(),
        weights=weights,
        dtype="bfloat16",
    )


def _layer_weights(
    hidden: int, attention: Attention, ffn: FeedForward, layers: tuple[int, ...]
) -> Iterator[Weight]:
    q, kv = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    place = "layers.{layer}.self_attn"
    for some, read in ((layers[:1], 2 * hidden), (layers[1:], hidden)):
        if some:
            yield Weight(f"{place}.q_proj", "attention", q, read, some, split="rows")
            yield Weight(f"{place}.k_proj", "attention", kv, read, some, split="rows")
            yield Weight(f"{place}.v_proj", "attention", kv, read, some, split="rows")
    yield Weight(f"{place}.o_proj", "attention_output", hidden, q, layers, split="columns")
    yield Weight("layers.{layer}.mlp.gate_proj", "ffn", ffn.width, hidden, layers, split="rows")
    yield Weight("layers.{layer}.mlp.up_proj", "ffn", ffn.width, hidden, layers, split="rows")
    yield Weight("layers.{layer}.mlp.down_proj", "ffn", hidden, ffn.width, layers, split="columns")
