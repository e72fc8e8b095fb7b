"""What a family of models says in its code and not in its configuration: names, norms, biases, defaults.

Sizes never stand here: they are read from the configuration. The families themselves are in `table`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

_SUFFIXES = ("ForConditionalGeneration", "ForCausalLM", "LMHeadModel")
Bias = tuple[str, bool]
"""The key that decides whether a bias exists and its default; an empty key: always the default."""
NEVER: Bias = ("", False)
ALWAYS: Bias = ("", True)


class Names(NamedTuple):
    """Module names of a checkpoint."""

    root: str = "model."
    embedding: str = "embed_tokens"
    positions: str = ""
    """Learned positions; empty without."""
    layer: str = "layers.{layer}"
    final_norm: str = "norm"
    head: str = "lm_head"
    attention: str = "self_attn"
    q: str = "q_proj"
    k: str = "k_proj"
    v: str = "v_proj"
    qkv: str = ""
    """One matrix in place of q, k and v."""
    o: str = "o_proj"
    q_norm: str = "q_norm"
    k_norm: str = "k_norm"
    ffn: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    gate_up: str = ""
    """One matrix in place of gate and up."""
    down: str = "down_proj"


class Experts(NamedTuple):
    """Module names and extras of a mixture-of-experts block."""

    block: str = "mlp"
    router: str = "gate"
    router_bias: bool = False
    correction: str = ""
    """A bias of the router that only chooses; empty without."""
    experts: str = "experts.{expert}"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    fused: bool = False
    """Gate and up of all experts lie in one tensor `gate_up`, down in another."""
    gate_up: str = "gate_up_proj"
    bias: bool = False
    shared: str = "shared_experts"
    shared_gate: str = ""
    width_key: str = "moe_intermediate_size"
    other_width_keys: tuple[str, ...] = ()
    """Where a family that is not known may have it."""
    dense_width_key: str = "intermediate_size"
    always_shared: bool = False
    """One shared expert as wide as a routed one, of which no key speaks."""


class Traits(NamedTuple):
    """One family."""

    names: Names = Names()
    experts: Experts = Experts()
    layer_norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    norm: Literal["rms", "layer", "none"] = "rms"
    """layer: with a shift; none: without parameters."""
    qkv_bias: Bias = NEVER
    o_bias: Bias = NEVER
    ffn_bias: Bias = NEVER
    head_bias: Bias = NEVER
    qk_norm: Literal["", "head", "width", "heads"] = ""
    """Size of the norms of queries and keys: one head, all heads together, or a row for each head."""
    qk_norm_key: Bias = ALWAYS
    gated: bool = True
    tied: bool = False
    head_dim: int | None = None
    """Where the configuration has none; None: hidden_size / num_attention_heads."""
    window: Literal["none", "all", "even", "all but each sixth", "all but each fourth", "qwen", "chunks"] = (
        "none"
    )
    """Layers with a bounded view where `layer_types` is absent and a window is given."""
    sinks: bool = False
    output_gate: bool = False
    """The query projection also makes a gate of the same size."""
    linear: Literal["", "qkvz", "parts"] = ""
    """Gated delta-net layers beside attention: their inputs in two matrices, or in four."""
    mtp_tables: bool = False
    """Multi-token prediction layers bring copies of embedding and head."""
    sizes: tuple[tuple[str, int], ...] = ()
    """What transformers takes for a key that the configuration leaves out."""


def family_of(name: str) -> str:
    """The word of a family: `Qwen3MoeForCausalLM`, `qwen3_moe` and `qwen3_moe_text` are all `qwen3moe`."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    word = name.lower().removesuffix("_text")
    return word.replace("_", "").replace("-", "")
