"""Gemma 4: layers that see all have other heads than those with a window; experts stand beside a dense block.

The small models (E2B, E4B) share caches between layers and feed an embedding into each: they are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.families.attention import attention_weights
from bwdeploy.model.families.decoder import HIDDEN, dtype_of, max_positions
from bwdeploy.model.families.feed_forward import dense_weights, read_dense, read_experts
from bwdeploy.model.families.layer_plan import spans
from bwdeploy.model.families.traits import Experts, Traits
from bwdeploy.model.fields import MAX_LAYERS
from bwdeploy.model.problem import ShapeError
from bwdeploy.model.shape import Attention, Layer, ModelShape
from bwdeploy.model.weights import Place

if TYPE_CHECKING:
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import FeedForward, Weight

_TRAITS = Traits(
    qkv_bias=("attention_bias", False), o_bias=("attention_bias", False), qk_norm="head",
    experts=Experts(width_key="moe_intermediate_size"),
)  # fmt: skip
_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
_EXPERT_NORMS = (
    "post_feedforward_layernorm_1",
    "post_feedforward_layernorm_2",
    "pre_feedforward_layernorm_2",
)


def read_gemma4(fields: Fields, *, architecture: str, model_type: str, origin: str, root: str) -> ModelShape:
    """The shape of a Gemma 4 text model; `root` is where it stands in the checkpoint.

    Raises:
        ShapeError: a key is missing or impossible, or it is one of the small models.
    """
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if fields.optional(key, minimum=0):
            raise ShapeError(
                key,
                f"{key} tells of a small Gemma 4, whose layers are not known here",
                "name a directory with its safetensors files: their headers are read instead",
                kind="unknown-architecture",
            )
    hidden, vocab = fields.number(*HIDDEN), fields.number("vocab_size")
    layers = _layers(fields, hidden)
    place = Place(root)
    tied = fields.flag("tie_word_embeddings", default=True)
    head = () if tied else Place("").matrix("lm_head", role="head", rows=vocab, columns=hidden, split="rows")
    return ModelShape(
        architecture=architecture,
        model_type=model_type,
        kind="decoder",
        hidden=hidden,
        vocab=vocab,
        layers=layers,
        mtp_layers=(),
        weights=(
            *place.matrix("embed_tokens", role="embedding", rows=vocab, columns=hidden, split="rows"),
            *_layer_weights(fields, layers, place.inside("layers.{layer}"), hidden),
            *place.norm("norm", size=hidden),
            *head,
        ),
        tied_embeddings=tied,
        max_positions=max_positions(fields),
        dtype=dtype_of(fields),
        origin=origin,
    )


def _layers(fields: Fields, hidden: int) -> tuple[Layer, ...]:
    heads, size = fields.number("num_attention_heads"), fields.number("head_dim", default=256)
    near = Attention("gqa", heads, fields.number("num_key_value_heads"), size, size)
    wide = fields.number("global_head_dim", default=size)
    shared = _keys_are_values(fields)
    kv_heads = fields.number("num_global_key_value_heads") if shared else near.kv_heads
    far = Attention("gqa", heads, kv_heads, wide, wide)
    for key, one in (("num_key_value_heads", near), ("num_global_key_value_heads", far)):
        if heads % one.kv_heads:
            raise fields.impossible(key, f"is {one.kv_heads}, which does not divide {heads} heads")
    ffn = _feed_forward(fields, hidden)
    has_window = _has_window(fields)
    views = spans(fields, _TRAITS, len(has_window))
    return tuple(
        Layer(near._replace(span=span) if is_near else far, ffn)
        for is_near, span in zip(has_window, views, strict=True)
    )


def _has_window(fields: Fields) -> tuple[bool, ...]:
    """For each layer whether it is one of those with a window."""
    count = fields.number("num_hidden_layers", maximum=MAX_LAYERS)
    kinds = fields.words("layer_types", length=count)
    if kinds is None:
        raise fields.missing("layer_types")
    return tuple(kind == "sliding_attention" for kind in kinds)


def _keys_are_values(fields: Fields) -> bool:
    """Layers that see all make no values: their keys serve as both, each with a norm of its own."""
    return fields.flag("attention_k_eq_v", default=False)


def _feed_forward(fields: Fields, hidden: int) -> FeedForward:
    dense = read_dense(fields, _TRAITS, hidden=hidden)
    if not fields.flag("enable_moe_block", default=False):
        return dense
    return read_experts(fields, _TRAITS)._replace(shared_width=dense.width)


def _layer_weights(
    fields: Fields, layers: tuple[Layer, ...], place: Place, hidden: int
) -> tuple[Weight, ...]:
    every = place._replace(layers=tuple(range(len(layers))))
    ffn = layers[0].ffn
    norms = (*_NORMS, *(_EXPERT_NORMS if ffn.kind == "moe" else ()))
    return (
        *(weight for name in norms for weight in every.norm(name, size=hidden)),
        *every.vector("layer_scalar", size=1, role="other"),
        *_attention(fields, layers, place, hidden, near=True),
        *_attention(fields, layers, place, hidden, near=False),
        *dense_weights(every, fields, _TRAITS, hidden=hidden),
        *(_expert_weights(every, ffn, hidden) if ffn.kind == "moe" else ()),
    )


def _attention(
    fields: Fields, layers: tuple[Layer, ...], place: Place, hidden: int, *, near: bool
) -> tuple[Weight, ...]:
    numbers = tuple(number for number, is_near in enumerate(_has_window(fields)) if is_near is near)
    if not numbers:
        return ()
    inside = place._replace(layers=numbers).inside("self_attn")
    found = attention_weights(inside, fields, _TRAITS, layers[numbers[0]].attention, hidden=hidden)
    if near or not _keys_are_values(fields):
        return found
    return tuple(weight for weight in found if ".v_proj" not in weight.module)


def _expert_weights(place: Place, ffn: FeedForward, hidden: int) -> tuple[Weight, ...]:
    router, experts = place.inside("router"), place.inside("experts")
    return (
        *router.matrix("proj", role="router", rows=ffn.experts, columns=hidden),
        *router.vector("scale", size=hidden, role="router"),
        *router.vector("per_expert_scale", size=ffn.experts, role="router"),
        *experts.matrix(
            "gate_up_proj",
            role="expert",
            rows=2 * ffn.width,
            columns=hidden,
            split="rows",
            copies=ffn.experts,
        ),
        *experts.matrix(
            "down_proj", role="expert", rows=hidden, columns=ffn.width, split="columns", copies=ffn.experts
        ),
    )
