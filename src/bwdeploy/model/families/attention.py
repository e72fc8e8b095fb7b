"""Attention of a layer and its weights: grouped heads (GQA, MHA, MQA), latent heads (MLA), delta nets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.shape import Attention

if TYPE_CHECKING:
    from bwdeploy.model.families.traits import Bias, Traits
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import Weight
    from bwdeploy.model.weights import Place

NO_ATTENTION = Attention(kind="none")
_MAX_HEADS = 65_536
_HEADS = ("num_attention_heads", "n_head")


def read_attention(fields: Fields, traits: Traits, *, hidden: int) -> Attention:
    """The heads of the model's attention layers; spans are set layer by layer.

    Raises:
        ShapeError: a size is missing, or the sizes do not fit each other.
    """
    heads = fields.number(*_HEADS, maximum=_MAX_HEADS)
    if fields.has("kv_lora_rank") or (fields.has("qk_rope_head_dim") and fields.has("qk_nope_head_dim")):
        return _latent(fields, heads)
    kv_heads = fields.number("num_key_value_heads", "num_kv_heads", default=heads, maximum=_MAX_HEADS)
    if heads % kv_heads:
        raise fields.impossible("num_key_value_heads", f"is {kv_heads}, which does not divide {heads} heads")
    head_dim = fields.optional("head_dim") or traits.head_dim or _whole_head(fields, hidden, heads)
    return Attention("gqa", heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim)


def _whole_head(fields: Fields, hidden: int, heads: int) -> int:
    if hidden % heads:
        what = f"is {heads}, which does not divide hidden_size {hidden}, and there is no head_dim"
        raise fields.impossible(_HEADS[0], what)
    return hidden // heads


def _latent(fields: Fields, heads: int) -> Attention:
    rope = fields.number("qk_rope_head_dim")
    return Attention(
        "mla",
        heads=heads,
        kv_heads=fields.number("num_key_value_heads", default=heads, maximum=_MAX_HEADS),
        head_dim=fields.number("qk_nope_head_dim", minimum=0) + rope,
        value_dim=fields.number("v_head_dim"),
        latent_dim=fields.number("kv_lora_rank") + rope,
        index_dim=fields.number("index_head_dim") if fields.has("index_n_heads", "index_head_dim") else 0,
    )


def attention_weights(
    place: Place, fields: Fields, traits: Traits, attention: Attention, *, hidden: int
) -> tuple[Weight, ...]:
    """The weights of attention in one layer; `place` is the attention module."""
    if attention.kind == "mla":
        return _latent_weights(place, fields, traits, attention, hidden)
    names, dim = traits.names, attention.head_dim
    q, kv = attention.heads * dim, attention.kv_heads * dim
    bias = has_bias(fields, traits.qkv_bias)
    if names.qkv:
        found = place.matrix(
            names.qkv, role="attention", rows=q + 2 * kv, columns=hidden, split="rows", bias=bias
        )
    else:
        gate = 2 if traits.output_gate else 1
        found = tuple(
            weight
            for name, rows in ((names.q, gate * q), (names.k, kv), (names.v, kv))
            for weight in place.matrix(
                name, role="attention", rows=rows, columns=hidden, split="rows", bias=bias
            )
        )
    o_bias = has_bias(fields, traits.o_bias)
    return (
        *found,
        *place.matrix(names.o, role="attention_output", rows=hidden, columns=q, split="columns", bias=o_bias),
        *_head_norms(place, fields, traits, attention),
        *(place.vector("sinks", size=attention.heads, role="other", split="rows") if traits.sinks else ()),
    )


def has_bias(fields: Fields, bias: Bias) -> bool:
    """What the key of a bias says.

    Raises:
        ShapeError: it is neither true nor false.
    """
    key, default = bias
    return fields.flag(key, default=default) if key else default


def _head_norms(place: Place, fields: Fields, traits: Traits, attention: Attention) -> tuple[Weight, ...]:
    if not traits.qk_norm or not has_bias(fields, traits.qk_norm_key):
        return ()
    whole = traits.qk_norm in {"width", "heads"}
    q = attention.head_dim * (attention.heads if whole else 1)
    k = attention.head_dim * (attention.kv_heads if whole else 1)
    return (*place.norm(traits.names.q_norm, size=q), *place.norm(traits.names.k_norm, size=k))


def _latent_weights(
    place: Place, fields: Fields, traits: Traits, attention: Attention, hidden: int
) -> tuple[Weight, ...]:
    bias = has_bias(fields, traits.qkv_bias)
    latent, heads = fields.number("kv_lora_rank"), attention.heads
    decompressed = heads * (fields.number("qk_nope_head_dim", minimum=0) + attention.value_dim)
    return (
        *_latent_queries(place, fields, attention, hidden, bias=bias),
        *place.matrix(
            "kv_a_proj_with_mqa", role="attention", rows=attention.latent_dim, columns=hidden, bias=bias
        ),
        *place.norm("kv_a_layernorm", size=latent),
        *place.matrix("kv_b_proj", role="attention", rows=decompressed, columns=latent, split="rows"),
        *place.matrix(
            "o_proj",
            role="attention_output",
            rows=hidden,
            columns=heads * attention.value_dim,
            split="columns",
            bias=bias,
        ),
    )


def _latent_queries(
    place: Place, fields: Fields, attention: Attention, hidden: int, *, bias: bool
) -> tuple[Weight, ...]:
    rows, rank = attention.heads * attention.head_dim, fields.optional("q_lora_rank")
    if rank is None:
        return place.matrix("q_proj", role="attention", rows=rows, columns=hidden, split="rows")
    return (
        *place.matrix("q_a_proj", role="attention", rows=rank, columns=hidden, bias=bias),
        *place.norm("q_a_layernorm", size=rank),
        *place.matrix("q_b_proj", role="attention", rows=rows, columns=rank, split="rows"),
    )


def indexer_weights(place: Place, fields: Fields, attention: Attention, *, hidden: int) -> tuple[Weight, ...]:
    """DeepSeek sparse attention: the small scorer that chooses the tokens a layer looks at."""
    if not attention.index_dim:
        return ()
    inside, heads = place.inside("indexer"), fields.number("index_n_heads", maximum=_MAX_HEADS)
    rank = fields.number("q_lora_rank")
    return (
        *inside.matrix("wq_b", role="attention", rows=heads * attention.index_dim, columns=rank),
        *inside.matrix("wk", role="attention", rows=attention.index_dim, columns=hidden),
        *inside.norm("k_norm", size=attention.index_dim, bias=True),
        *inside.matrix("weights_proj", role="attention", rows=heads, columns=hidden),
    )


def delta_net_weights(place: Place, fields: Fields, traits: Traits, *, hidden: int) -> tuple[Weight, ...]:
    """A gated delta-net layer (Qwen3-Next, Qwen3.5); it keeps a state of fixed size, no KV cache."""
    heads = fields.number("linear_num_value_heads", maximum=_MAX_HEADS)
    value_dim = fields.number("linear_value_head_dim")
    keys = fields.number("linear_num_key_heads", maximum=_MAX_HEADS) * fields.number("linear_key_head_dim")
    values = heads * value_dim
    inputs = (
        (("in_proj_qkvz", 2 * keys + 2 * values), ("in_proj_ba", 2 * heads))
        if traits.linear == "qkvz"
        else (
            ("in_proj_qkv", 2 * keys + values),
            ("in_proj_z", values),
            ("in_proj_b", heads),
            ("in_proj_a", heads),
        )
    )
    taps = fields.number("linear_conv_kernel_dim") * (2 * keys + values)
    return (
        *(
            weight
            for name, rows in inputs
            for weight in place.matrix(name, role="attention", rows=rows, columns=hidden, split="rows")
        ),
        *place.vector("conv1d", size=taps, role="other", split="rows"),
        *place.vector("dt_bias", size=heads, role="other", split="rows"),
        *place.vector("A_log", size=heads, role="other", split="rows"),
        *place.norm("norm", size=value_dim),
        *place.matrix("out_proj", role="attention_output", rows=hidden, columns=values, split="columns"),
    )
