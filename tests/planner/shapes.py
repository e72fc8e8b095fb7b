"""Shapes of known models, written by hand from their published configurations."""

from __future__ import annotations

from bwdeploy.model.shape import Attention, FeedForward, Layer, ModelShape, Role, Split, Weight


def _weight(  # noqa: PLR0917 - a table row
    name: str, role: Role, rows: int, columns: int, split: Split, layers: range
) -> Weight:
    return Weight(f"model.layers.{{layer}}.{name}", role, rows, columns, tuple(layers), split=split)


def _gqa(hidden: int, heads: int, kv_heads: int, dim: int, layers: range) -> tuple[Weight, ...]:
    return (
        _weight("self_attn.q_proj", "attention", heads * dim, hidden, "rows", layers),
        _weight("self_attn.k_proj", "attention", kv_heads * dim, hidden, "rows", layers),
        _weight("self_attn.v_proj", "attention", kv_heads * dim, hidden, "rows", layers),
        _weight("self_attn.o_proj", "attention_output", hidden, heads * dim, "columns", layers),
    )


def _ffn(name: str, role: Role, hidden: int, width: int, layers: range) -> tuple[Weight, ...]:
    return (
        _weight(f"{name}.gate_proj", role, width, hidden, "rows", layers),
        _weight(f"{name}.up_proj", role, width, hidden, "rows", layers),
        _weight(f"{name}.down_proj", role, hidden, width, "columns", layers),
    )


def _experts(hidden: int, width: int, experts: int, layers: range) -> tuple[Weight, ...]:
    return tuple(
        weight._replace(copies=experts)
        for weight in _ffn("mlp.experts.{expert}", "expert", hidden, width, layers)
    )


def _ends(hidden: int, vocab: int) -> tuple[Weight, ...]:
    return (
        Weight("model.embed_tokens", "embedding", vocab, hidden, split="rows"),
        Weight("lm_head", "head", vocab, hidden, split="rows"),
    )


def dense(
    *,
    hidden: int = 8192,
    layers: int = 80,
    heads: int = 64,
    kv_heads: int = 8,
    width: int = 28672,
    vocab: int = 128256,
    dim: int = 128,
) -> ModelShape:
    """Llama 3.3 70B unless told otherwise."""
    every = range(layers)
    layer = Layer(Attention("gqa", heads, kv_heads, dim, dim), FeedForward("dense", width))
    return ModelShape(
        architecture="LlamaForCausalLM",
        model_type="llama",
        kind="decoder",
        hidden=hidden,
        vocab=vocab,
        layers=(layer,) * layers,
        mtp_layers=(),
        weights=(
            *_ends(hidden, vocab),
            *_gqa(hidden, heads, kv_heads, dim, every),
            *_ffn("mlp", "ffn", hidden, width, every),
        ),
        tied_embeddings=False,
        max_positions=131072,
        dtype="bfloat16",
        origin="tests",
    )


def moe(  # noqa: PLR0913 - the keys of a configuration
    *,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    dim: int,
    experts: int,
    chosen: int,
    width: int,
    vocab: int,
    architecture: str = "Qwen3MoeForCausalLM",
    model_type: str = "qwen3_moe",
) -> ModelShape:
    every = range(layers)
    ffn = FeedForward("moe", width, experts=experts, experts_per_token=chosen)
    layer = Layer(Attention("gqa", heads, kv_heads, dim, dim), ffn)
    return dense(layers=1, hidden=hidden, heads=heads, kv_heads=kv_heads, dim=dim)._replace(
        architecture=architecture,
        model_type=model_type,
        vocab=vocab,
        layers=(layer,) * layers,
        weights=(
            *_ends(hidden, vocab),
            *_gqa(hidden, heads, kv_heads, dim, every),
            _weight("mlp.gate", "router", experts, hidden, "none", every),
            *_experts(hidden, width, experts, every),
        ),
    )


def qwen3_235b() -> ModelShape:
    return moe(
        hidden=4096, layers=94, heads=64, kv_heads=4, dim=128,
        experts=128, chosen=8, width=1536, vocab=151936,
    )  # fmt: skip


def gpt_oss_120b() -> ModelShape:
    return moe(
        hidden=2880, layers=36, heads=64, kv_heads=8, dim=64,
        experts=128, chosen=4, width=2880, vocab=201088,
        architecture="GptOssForCausalLM", model_type="gpt_oss",
    )  # fmt: skip


def deepseek_r1() -> ModelShape:
    hidden, heads, every, sparse = 7168, 128, range(61), range(3, 61)
    attention = Attention("mla", heads, heads, 192, 128, latent_dim=576)
    first = Layer(attention, FeedForward("dense", 18432))
    rest = Layer(attention, FeedForward("moe", 2048, experts=256, experts_per_token=8, shared_width=2048))
    return dense(layers=1, hidden=hidden)._replace(
        architecture="DeepseekV3ForCausalLM",
        model_type="deepseek_v3",
        vocab=129280,
        layers=(first,) * 3 + (rest,) * 58,
        weights=(
            *_ends(hidden, 129280),
            _weight("self_attn.q_a_proj", "attention", 1536, hidden, "none", every),
            _weight("self_attn.q_b_proj", "attention", heads * 192, 1536, "rows", every),
            _weight("self_attn.kv_a_proj_with_mqa", "attention", 576, hidden, "none", every),
            _weight("self_attn.kv_b_proj", "attention", heads * 256, 512, "rows", every),
            _weight("self_attn.o_proj", "attention_output", hidden, heads * 128, "columns", every),
            *_ffn("mlp", "ffn", hidden, 18432, range(3)),
            _weight("mlp.gate", "router", 256, hidden, "none", sparse),
            *_ffn("mlp.shared_experts", "shared_expert", hidden, 2048, sparse),
            *_experts(hidden, 2048, 256, sparse),
        ),
        max_positions=163840,
    )  # fmt: skip
