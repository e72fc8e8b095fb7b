"""The draft of EAGLE3: one decoder layer that reads the target model's hidden states.

Follows the tensor names of ModelOpt's export: `fc` joins three hidden states of the target, the layer's
projections read the token's embedding beside them, and the head may know a smaller vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.families.attention import attention_weights, has_bias, read_attention
from bwdeploy.model.families.decoder import HIDDEN, dtype_of, max_positions
from bwdeploy.model.families.feed_forward import dense_weights, read_dense
from bwdeploy.model.families.traits import Traits
from bwdeploy.model.fields import MAX_LAYERS
from bwdeploy.model.shape import Layer, ModelShape
from bwdeploy.model.weights import Place

if TYPE_CHECKING:
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import Weight

_TRAITS = Traits(
    qkv_bias=("attention_bias", False), o_bias=("attention_bias", False), ffn_bias=("mlp_bias", False)
)
_JOINED_STATES = 3
_NORMS = ("hidden_norm", "input_layernorm", "post_attention_layernorm")


def read_draft(fields: Fields, *, architecture: str, origin: str) -> ModelShape:
    """The shape of an EAGLE3 draft; its embedding is the target's and not counted.

    Raises:
        ShapeError: a key is missing or impossible.
    """
    hidden, vocab = fields.number(*HIDDEN), fields.number("vocab_size")
    target = fields.number("target_hidden_size", default=hidden)
    count = fields.number("num_hidden_layers", default=1, maximum=MAX_LAYERS)
    attention = read_attention(fields, _TRAITS, hidden=hidden)
    head = fields.number("draft_vocab_size", default=vocab)
    root = Place("")
    return ModelShape(
        architecture=architecture,
        model_type=fields.text("model_type"),
        kind="decoder",
        hidden=hidden,
        vocab=vocab,
        layers=(Layer(attention, read_dense(fields, _TRAITS, hidden=hidden)),) * count,
        mtp_layers=(),
        weights=(
            *root.matrix("fc", role="other", rows=hidden, columns=_JOINED_STATES * target),
            *_layer_weights(fields, count, hidden),
            *root.norm("norm", size=hidden),
            *root.matrix("lm_head", role="head", rows=head, columns=hidden, split="rows"),
        ),
        tied_embeddings=False,
        max_positions=max_positions(fields),
        dtype=dtype_of(fields),
        origin=origin,
        assumptions=("the draft's embedding is taken to be the target model's own",),
    )


def _layer_weights(fields: Fields, count: int, hidden: int) -> tuple[Weight, ...]:
    place = Place("midlayer.", tuple(range(count)))
    attention = read_attention(fields, _TRAITS, hidden=hidden)
    inside, bias = place.inside("self_attn"), has_bias(fields, _TRAITS.qkv_bias)
    q, kv = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    plain = attention_weights(inside, fields, _TRAITS, attention, hidden=hidden)
    doubled = tuple(
        weight
        for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv))
        for weight in inside.matrix(
            name, role="attention", rows=rows, columns=2 * hidden, split="rows", bias=bias
        )
    )
    return (
        *(weight for name in _NORMS for weight in place.norm(name, size=hidden)),
        *doubled,
        *plain[len(doubled) :],
        *dense_weights(place, fields, _TRAITS, hidden=hidden),
    )
