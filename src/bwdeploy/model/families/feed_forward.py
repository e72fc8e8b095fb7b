"""The feed-forward block of a layer, dense or mixture of experts, and its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.families.attention import has_bias
from bwdeploy.model.fields import MAX_EXPERTS
from bwdeploy.model.shape import FeedForward

if TYPE_CHECKING:
    from bwdeploy.model.families.traits import Traits
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import Role, Weight
    from bwdeploy.model.weights import Place

NO_FEED_FORWARD = FeedForward(kind="none")
EXPERT_COUNTS = (
    "n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "num_routed_experts",
)  # fmt: skip
_EXPERTS_PER_TOKEN = (
    "num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts",
)  # fmt: skip
_WIDTHS = ("intermediate_size", "ffn_hidden_size", "n_inner")
_GPT2_RATIO = 4


def read_dense(fields: Fields, traits: Traits, *, hidden: int) -> FeedForward:
    """The block of a layer without experts.

    Raises:
        ShapeError: its width is missing or impossible.
    """
    default = _GPT2_RATIO * hidden if fields.has("n_embd") else None
    key = traits.experts.dense_width_key
    names = (key, *_WIDTHS) if fields.has(*EXPERT_COUNTS) else _WIDTHS
    return FeedForward("dense", width=fields.number(*names, default=default), gated=traits.gated)


def read_experts(fields: Fields, traits: Traits) -> FeedForward:
    """The block of a layer with experts.

    Raises:
        ShapeError: a size is missing or impossible, or a token goes to more experts than there are.
    """
    experts = fields.number(*EXPERT_COUNTS, maximum=MAX_EXPERTS)
    per_token = fields.number(*_EXPERTS_PER_TOKEN, maximum=MAX_EXPERTS)
    if per_token > experts:
        key = next(name for name in _EXPERTS_PER_TOKEN if fields.has(name))
        raise fields.impossible(key, f"is {per_token}, but there are {experts} experts")
    width = fields.number(traits.experts.width_key, *traits.experts.other_width_keys)
    return FeedForward(
        "moe",
        width=width,
        gated=traits.gated,
        experts=experts,
        experts_per_token=per_token,
        shared_width=_shared_width(fields, traits, width),
    )


def require_no_experts(fields: Fields) -> None:
    """A configuration that counts no experts must not send tokens to them.

    Raises:
        ShapeError: it does.
    """
    for key in _EXPERTS_PER_TOKEN:
        if fields.optional(key, minimum=0):
            counts = ", ".join(EXPERT_COUNTS)
            raise fields.impossible(key, f"speaks of experts, but no key says how many there are ({counts})")


def _shared_width(fields: Fields, traits: Traits, width: int) -> int:
    stated = fields.optional(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size",
        minimum=0,
    )  # fmt: skip
    if stated is not None:
        return stated
    if traits.experts.always_shared:
        return width
    if traits.experts.shared_gate:
        raise fields.missing("shared_expert_intermediate_size")
    count = fields.optional(
        "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", minimum=0, maximum=MAX_EXPERTS
    )
    return (count or 0) * width


def dense_weights(place: Place, fields: Fields, traits: Traits, *, hidden: int) -> tuple[Weight, ...]:
    """The matrices of a dense block; `place` is the layer."""
    inside = place.inside(traits.names.ffn)
    bias = has_bias(fields, traits.ffn_bias)
    return _matrices(
        inside, traits, role="ffn", width=read_dense(fields, traits, hidden=hidden).width, hidden=hidden,
        bias=bias,
    )  # fmt: skip


def _matrices(
    place: Place, traits: Traits, *, role: Role, width: int, hidden: int, bias: bool
) -> tuple[Weight, ...]:
    names = traits.names
    into: tuple[tuple[str, int], ...] = ((names.up, width),)
    if traits.gated:
        into = ((names.gate, width), (names.up, width))
    if names.gate_up:
        into = ((names.gate_up, 2 * width),)
    return (
        *(
            weight
            for name, rows in into
            for weight in place.matrix(name, role=role, rows=rows, columns=hidden, split="rows", bias=bias)
        ),
        *place.matrix(names.down, role=role, rows=hidden, columns=width, split="columns", bias=bias),
    )


def expert_weights(place: Place, traits: Traits, ffn: FeedForward, *, hidden: int) -> tuple[Weight, ...]:
    """The router, the routed and the shared experts; `place` is the layer."""
    names, inside = traits.experts, place.inside(traits.experts.block)
    correction = inside.vector(names.correction, size=ffn.experts, role="router") if names.correction else ()
    routed = _fused(inside, traits, ffn, hidden) if names.fused else _routed(inside, traits, ffn, hidden)
    return (
        *inside.matrix(names.router, role="router", rows=ffn.experts, columns=hidden, bias=names.router_bias),
        *correction,
        *routed,
        *_shared(inside, traits, ffn, hidden),
    )


def _routed(inside: Place, traits: Traits, ffn: FeedForward, hidden: int) -> tuple[Weight, ...]:
    names = traits.experts
    place = inside.inside(names.experts)
    into = (names.gate, names.up) if ffn.gated else (names.up,)
    return (
        *(
            weight
            for name in into
            for weight in place.matrix(
                name, role="expert", rows=ffn.width, columns=hidden, split="rows", copies=ffn.experts
            )
        ),
        *place.matrix(
            names.down, role="expert", rows=hidden, columns=ffn.width, split="columns", copies=ffn.experts
        ),
    )


def _fused(inside: Place, traits: Traits, ffn: FeedForward, hidden: int) -> tuple[Weight, ...]:
    """All experts in two tensors; a copy is one expert's part. Their biases have names of their own."""
    names, count = traits.experts, ffn.experts
    place = inside.inside(names.experts)
    wide = 2 * ffn.width
    biases = (
        *place.vector(f"{names.gate_up}_bias", size=wide, role="bias", copies=count, split="rows"),
        *place.vector(f"{names.down}_bias", size=hidden, role="bias", copies=count),
    )
    return (
        *place.matrix(names.gate_up, role="expert", rows=wide, columns=hidden, split="rows", copies=count),
        *place.matrix(
            names.down, role="expert", rows=hidden, columns=ffn.width, split="columns", copies=count
        ),
        *(biases if names.bias else ()),
    )


def _shared(inside: Place, traits: Traits, ffn: FeedForward, hidden: int) -> tuple[Weight, ...]:
    if not ffn.shared_width:
        return ()
    names = traits.experts
    gate: tuple[Weight, ...] = ()
    if names.shared_gate:
        gate = inside.matrix(names.shared_gate, role="router", rows=1, columns=hidden)
    matrices = _matrices(
        inside.inside(names.shared), traits, role="shared_expert", width=ffn.shared_width, hidden=hidden,
        bias=False,
    )  # fmt: skip
    return (*matrices, *gate)
