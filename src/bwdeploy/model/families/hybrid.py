"""Nemotron-H: attention, state-space (Mamba 2), dense and expert blocks in one row, one block a layer.

A state-space layer keeps a state of fixed size instead of a KV cache: its attention is of kind none. The
multi-token prediction layers of the newer models are not counted, which the shape says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.families.attention import NO_ATTENTION, attention_weights, read_attention
from bwdeploy.model.families.decoder import HIDDEN, dtype_of, max_positions
from bwdeploy.model.families.feed_forward import NO_FEED_FORWARD, dense_weights, read_dense, read_experts
from bwdeploy.model.families.traits import Names, Traits
from bwdeploy.model.fields import MAX_LAYERS
from bwdeploy.model.shape import Layer, ModelShape
from bwdeploy.model.weights import Place

if TYPE_CHECKING:
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import FeedForward, Weight

_ATTENTION, _STATE_SPACE, _DENSE, _EXPERTS = "*", "M", "-", "E"
_LETTERS = {
    "attention": _ATTENTION, "full_attention": _ATTENTION, "mamba": _STATE_SPACE,
    "linear_attention": _STATE_SPACE, "mlp": _DENSE, "moe": _EXPERTS,
}  # fmt: skip
_TRAITS = Traits(
    names=Names(root="backbone.", embedding="embeddings", final_norm="norm_f", attention="", ffn=""),
    gated=False,
    ffn_bias=("mlp_bias", False),
)


def read_hybrid(fields: Fields, *, architecture: str, origin: str) -> ModelShape:
    """The shape of a Nemotron-H model.

    Raises:
        ShapeError: a key is missing or impossible.
    """
    hidden, vocab = fields.number(*HIDDEN), fields.number("vocab_size")
    pattern = _pattern(fields)
    tied = fields.flag("tie_word_embeddings", default=False)
    root, top = Place(_TRAITS.names.root), Place("")
    embedding, head = _TRAITS.names.embedding, _TRAITS.names.head
    return ModelShape(
        architecture=architecture,
        model_type=fields.text("model_type"),
        kind="decoder",
        hidden=hidden,
        vocab=vocab,
        layers=_layers(fields, pattern, hidden),
        mtp_layers=(),
        weights=(
            *root.matrix(embedding, role="embedding", rows=vocab, columns=hidden, split="rows"),
            *_layer_weights(fields, pattern, hidden),
            *root.norm(_TRAITS.names.final_norm, size=hidden),
            *(() if tied else top.matrix(head, role="head", rows=vocab, columns=hidden, split="rows")),
        ),
        tied_embeddings=tied,
        max_positions=max_positions(fields),
        dtype=dtype_of(fields),
        origin=origin,
        assumptions=_assumptions(fields),
    )


def _pattern(fields: Fields) -> str:
    """One letter for each layer."""
    letters = fields.text("hybrid_override_pattern")
    kinds = fields.words("layers_block_type") or fields.words("layer_types")
    key = "hybrid_override_pattern" if letters else "layers_block_type"
    if not letters and not kinds:
        raise fields.missing("hybrid_override_pattern")
    found = letters or "".join(_LETTERS.get(kind, "?") for kind in kinds or ())
    known = {_ATTENTION, _STATE_SPACE, _DENSE, _EXPERTS}
    if len(found) > MAX_LAYERS or not set(found) <= known:
        kinds_known = " ".join(sorted(known))
        raise fields.impossible(key, f"holds something else than layers of the kinds {kinds_known}")
    stated = fields.optional("num_hidden_layers", maximum=MAX_LAYERS)
    if stated is not None and stated != len(found):
        raise fields.impossible(key, f"names {len(found)} layers, but num_hidden_layers is {stated}")
    return found


def _layers(fields: Fields, pattern: str, hidden: int) -> tuple[Layer, ...]:
    by_letter = {_STATE_SPACE: Layer(NO_ATTENTION, NO_FEED_FORWARD)}
    if _ATTENTION in pattern:
        by_letter[_ATTENTION] = Layer(read_attention(fields, _TRAITS, hidden=hidden), NO_FEED_FORWARD)
    if _DENSE in pattern:
        by_letter[_DENSE] = Layer(NO_ATTENTION, read_dense(fields, _TRAITS, hidden=hidden))
    if _EXPERTS in pattern:
        by_letter[_EXPERTS] = Layer(NO_ATTENTION, read_experts(fields, _TRAITS))
    return tuple(by_letter[letter] for letter in pattern)


def _layer_weights(fields: Fields, pattern: str, hidden: int) -> tuple[Weight, ...]:
    layer = Place(f"{_TRAITS.names.root}layers.{{layer}}.", tuple(range(len(pattern))))

    def mixer(letter: str) -> Place:
        return layer._replace(
            prefix=f"{layer.prefix}mixer.",
            layers=tuple(number for number, one in enumerate(pattern) if one == letter),
        )

    weights = list(layer.norm("norm", size=hidden))
    if _ATTENTION in pattern:
        attention = read_attention(fields, _TRAITS, hidden=hidden)
        weights += attention_weights(mixer(_ATTENTION), fields, _TRAITS, attention, hidden=hidden)
    if _STATE_SPACE in pattern:
        weights += _state_space(mixer(_STATE_SPACE), fields, hidden)
    if _DENSE in pattern:
        weights += dense_weights(mixer(_DENSE), fields, _TRAITS, hidden=hidden)
    if _EXPERTS in pattern:
        weights += _experts(mixer(_EXPERTS), fields, read_experts(fields, _TRAITS), hidden)
    return tuple(weights)


def _state_space(place: Place, fields: Fields, hidden: int) -> tuple[Weight, ...]:
    heads = fields.number("mamba_num_heads")
    inner = heads * fields.number("mamba_head_dim")
    groups = fields.number("n_groups", "mamba_n_groups")
    channels = inner + 2 * groups * fields.number("ssm_state_size")
    taps = fields.number("conv_kernel", "mamba_d_conv")
    bias = fields.flag("use_bias", default=False)
    conv_bias = fields.flag("use_conv_bias", default=True)
    return (
        *place.matrix("in_proj", role="attention", rows=inner + channels + heads, columns=hidden, bias=bias),
        *place.vector("conv1d", size=channels * taps, role="other"),
        *(place.vector("conv1d.bias", size=channels, role="bias") if conv_bias else ()),
        *(
            weight
            for name in ("A_log", "D", "dt_bias")
            for weight in place.vector(name, size=heads, role="other")
        ),
        *place.norm("norm", size=inner),
        *place.matrix(
            "out_proj", role="attention_output", rows=hidden, columns=inner, split="columns", bias=bias
        ),
    )


def _experts(place: Place, fields: Fields, ffn: FeedForward, hidden: int) -> tuple[Weight, ...]:
    """Experts may work in a smaller space than the model's own; shared ones never do."""
    latent = fields.optional("moe_latent_size")
    inner, routed, shared = latent or hidden, place.inside("experts.{expert}"), place.inside("shared_experts")
    width, wide, count = ffn.width, ffn.shared_width, ffn.experts
    into_latent = (
        *place.matrix("fc1_latent_proj", role="other", rows=inner, columns=hidden),
        *place.matrix("fc2_latent_proj", role="other", rows=hidden, columns=inner),
    )
    return (
        *place.matrix("gate", role="router", rows=count, columns=hidden),
        *place.vector("gate.e_score_correction_bias", size=count, role="router"),
        *(into_latent if latent else ()),
        *routed.matrix("up_proj", role="expert", rows=width, columns=inner, split="rows", copies=count),
        *routed.matrix("down_proj", role="expert", rows=inner, columns=width, split="columns", copies=count),
        *shared.matrix("up_proj", role="shared_expert", rows=wide, columns=hidden, split="rows"),
        *shared.matrix("down_proj", role="shared_expert", rows=hidden, columns=wide, split="columns"),
    )


def _assumptions(fields: Fields) -> tuple[str, ...]:
    notes = ["the state of its state-space layers is not counted as KV cache"]
    if fields.optional("num_nextn_predict_layers", minimum=0):
        notes.append("its multi-token prediction layers are not counted")
    return tuple(notes)
