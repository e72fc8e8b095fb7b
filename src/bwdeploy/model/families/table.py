"""The families whose layers are known for certain, one row each.

Found by the class name in `architectures` or by `model_type`. Rows follow the modeling files of
https://github.com/huggingface/transformers and the tensor names of the published checkpoints.
"""

from __future__ import annotations

from bwdeploy.model.families.traits import ALWAYS, Bias, Experts, Names, Traits

_ATTENTION_BIAS: Bias = ("attention_bias", False)
_USE_BIAS: Bias = ("use_bias", False)
_SANDWICH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_POST_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
_FUSED_FFN = Names(gate_up="gate_up_proj")
_LLAMA = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, ffn_bias=("mlp_bias", False))
_QWEN2 = Traits(qkv_bias=ALWAYS, window="qwen")
_QWEN3_MOE = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, qk_norm="head", window="qwen")
_QWEN3 = _QWEN3_MOE._replace(head_dim=128)
_QWEN35 = _QWEN3_MOE._replace(head_dim=256, output_gate=True, linear="parts")
_GEMMA = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, tied=True, head_dim=256)
_GEMMA3_SIZES = (
    ("num_attention_heads", 8), ("num_key_value_heads", 4), ("vocab_size", 262208), ("sliding_window", 4096),
    ("max_position_embeddings", 131072),
)  # fmt: skip
"""The published files of Gemma 3 leave them out."""
_DEEPSEEK = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS)
_GLM_MLA = _DEEPSEEK._replace(experts=Experts(correction="gate.e_score_correction_bias"))
_DEEPSEEK_V3 = _GLM_MLA._replace(
    mtp_tables=True, sizes=(("first_k_dense_replace", 3), ("n_shared_experts", 1))
)
_QWEN_SHARED = Experts(shared="shared_expert", shared_gate="shared_expert_gate")
_BLOCK_SPARSE = Experts(
    block="block_sparse_moe", gate="w1", up="w3", down="w2", width_key="intermediate_size"
)
_OLMO = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, norm="none")
_OLMO2 = _OLMO._replace(norm="rms", layer_norms=_POST_NORMS, qk_norm="width")
_COHERE = Traits(
    qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, layer_norms=("input_layernorm",), tied=True,
    qk_norm="heads", qk_norm_key=("use_qk_norm", False), window="all but each fourth",
)  # fmt: skip
_GPT2_NAMES = Names(
    root="transformer.", embedding="wte", positions="wpe", layer="h.{layer}", final_norm="ln_f",
    attention="attn", qkv="c_attn", o="c_proj", up="c_fc", down="c_proj",
)  # fmt: skip
_NEOX_NAMES = Names(
    root="gpt_neox.", embedding="embed_in", final_norm="final_layer_norm", head="embed_out",
    attention="attention", qkv="query_key_value", o="dense", up="dense_h_to_4h", down="dense_4h_to_h",
)  # fmt: skip
_PHI_NAMES = Names(o="dense", up="fc1", down="fc2", final_norm="final_layernorm")
_GRANITE_EXPERTS = Experts(
    block="block_sparse_moe", router="router.layer", fused=True, gate_up="input_linear",
    down="output_linear", experts="", width_key="intermediate_size",
)  # fmt: skip

FAMILIES: dict[str, Traits] = {
    "llama": _LLAMA,
    "mistral": Traits(window="all"),
    "ministral": Traits(window="all"),
    "ministral3": Traits(window="all"),
    "granite": _LLAMA,
    "smollm3": _LLAMA._replace(tied=True),
    "seedoss": _LLAMA._replace(qkv_bias=("attention_bias", True), o_bias=("attention_out_bias", False)),
    "cwm": Traits(window="none"),
    "mimo": _QWEN2,
    "qwen2": _QWEN2,
    "qwen2vl": _QWEN2,
    "qwen25vl": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3vl": _QWEN3,
    "qwen2moe": _QWEN2._replace(qkv_bias=("qkv_bias", True), experts=_QWEN_SHARED),
    "qwen3moe": _QWEN3_MOE,
    "qwen3vlmoe": _QWEN3,
    "qwen3next": _QWEN35._replace(experts=_QWEN_SHARED, linear="qkvz"),
    "qwen35": _QWEN35,
    "qwen35moe": _QWEN35._replace(experts=_QWEN_SHARED),
    "phi3": Traits(names=Names(qkv="qkv_proj", gate_up="gate_up_proj"), window="all"),
    "phi": Traits(
        names=_PHI_NAMES, layer_norms=("input_layernorm",), norm="layer", gated=False, qkv_bias=ALWAYS,
        o_bias=ALWAYS, ffn_bias=ALWAYS, head_bias=ALWAYS,
    ),
    "phimoe": Traits(
        experts=_BLOCK_SPARSE, norm="layer", qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS,
        head_bias=("lm_head_bias", False), window="all",
    ),
    "gemma": _GEMMA,
    "gemma2": _GEMMA._replace(layer_norms=_SANDWICH, window="even"),
    "gemma3": _GEMMA._replace(
        layer_norms=_SANDWICH, qk_norm="head", window="all but each sixth", sizes=_GEMMA3_SIZES
    ),
    "olmo": _OLMO,
    "olmo2": _OLMO2,
    "olmo3": _OLMO2._replace(window="all but each fourth"),
    "olmoe": Traits(
        qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, qk_norm="width",
        experts=Experts(width_key="intermediate_size"),
    ),
    "glm": Traits(names=_FUSED_FFN, qkv_bias=("attention_bias", False)),
    "glm4": Traits(
        names=_FUSED_FFN, qkv_bias=("attention_bias", False),
        layer_norms=(
            "input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm",
        ),
    ),
    "glm4moe": Traits(
        qkv_bias=("attention_bias", False), qk_norm="head", qk_norm_key=("use_qk_norm", False),
        experts=Experts(correction="gate.e_score_correction_bias"),
        # GLM-4.5 has them; GLM-4.6 of the same class left them out: https://github.com/vllm-project/vllm/pull/27597
        mtp_tables=True,
    ),
    "glm4moelite": _GLM_MLA,
    "glmmoedsa": _GLM_MLA,
    "cohere": _COHERE,
    "cohere2": _COHERE._replace(qk_norm=""),
    "nemotron": Traits(
        norm="layer", gated=False, qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS,
        ffn_bias=("mlp_bias", False),
    ),
    "arcee": _LLAMA._replace(gated=False),
    "starcoder2": Traits(
        names=Names(up="c_fc", down="c_proj"), norm="layer", gated=False, qkv_bias=("use_bias", True),
        o_bias=("use_bias", True), ffn_bias=("use_bias", True), tied=True, window="all",
    ),
    "exaone4": Traits(layer_norms=_POST_NORMS, qk_norm="head", window="all but each fourth"),
    "ernie45": Traits(
        qkv_bias=_USE_BIAS, o_bias=_USE_BIAS, ffn_bias=_USE_BIAS, tied=True
    ),
    "hunyuanv1dense": Traits(
        names=Names(q_norm="query_layernorm", k_norm="key_layernorm"), qk_norm="head",
        qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS,
    ),
    "gpt2": Traits(
        names=_GPT2_NAMES, layer_norms=("ln_1", "ln_2"), norm="layer", gated=False, qkv_bias=ALWAYS,
        o_bias=ALWAYS, ffn_bias=ALWAYS, tied=True,
    ),
    "gptneox": Traits(
        names=_NEOX_NAMES, norm="layer", gated=False, qkv_bias=("attention_bias", True),
        o_bias=("attention_bias", True), ffn_bias=ALWAYS,
    ),
    "mixtral": Traits(experts=_BLOCK_SPARSE, window="all"),
    "minimaxm2": Traits(
        experts=_BLOCK_SPARSE._replace(correction="e_score_correction_bias"), qk_norm="width"
    ),
    "granitemoe": _LLAMA._replace(experts=_GRANITE_EXPERTS),
    "deepseekv2": _DEEPSEEK,
    "deepseekv3": _DEEPSEEK_V3,
    "deepseekv32": _DEEPSEEK_V3,
    "kimik2": _DEEPSEEK_V3,
    "dots1": _DEEPSEEK_V3._replace(qk_norm="head"),
    "llama4": Traits(
        names=Names(ffn="feed_forward"), qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, window="chunks",
        experts=Experts(
            block="feed_forward", router="router", fused=True, experts="experts", shared="shared_expert",
            width_key="intermediate_size", dense_width_key="intermediate_size_mlp", always_shared=True,
        ),
    ),
    "gptoss": Traits(
        qkv_bias=("attention_bias", True), o_bias=("attention_bias", True), head_dim=64, sinks=True,
        window="even", sizes=(("num_key_value_heads", 8), ("sliding_window", 128)),
        experts=Experts(
            router="router", router_bias=True, fused=True, bias=True, experts="experts",
            width_key="intermediate_size",
        ),
    ),
}  # fmt: skip

ROOTS: dict[str, tuple[str, str]] = {
    "llama4": ("language_model.model.", "language_model.lm_head"),
    "mistral3": ("language_model.model.", "language_model.lm_head"),
    "gemma3": ("language_model.model.", "language_model.lm_head"),
    "kimik25": ("language_model.model.", "language_model.lm_head"),
    "llava": ("language_model.model.", "language_model.lm_head"),
    "qwen2vl": ("model.", "lm_head"),
    "qwen25vl": ("model.", "lm_head"),
    "qwen3vl": ("model.language_model.", "lm_head"),
    "qwen3vlmoe": ("model.language_model.", "lm_head"),
    "qwen35": ("model.language_model.", "lm_head"),
    "qwen35moe": ("model.language_model.", "lm_head"),
}
"""Where the text model and its head stand in the checkpoint of a model that also sees."""
