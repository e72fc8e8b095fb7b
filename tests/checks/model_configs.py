"""Small configurations for rules that look at the model: real families, few layers."""

from __future__ import annotations

from typing import Any

_SMALL: dict[str, Any] = {
    "hidden_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 32000,
    "max_position_embeddings": 131072,
}
LLAMA: dict[str, Any] = {**_SMALL, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
GEMMA: dict[str, Any] = {
    **_SMALL,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "head_dim": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
}
PHI: dict[str, Any] = {**_SMALL, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
MIXTRAL: dict[str, Any] = {
    **_SMALL,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
GPT_OSS: dict[str, Any] = {
    **_SMALL,
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "quantization_config": {"quant_method": "mxfp4"},
}
DEEPSEEK: dict[str, Any] = {
    **_SMALL,
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "num_key_value_heads": 32,
    "q_lora_rank": 512,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "moe_intermediate_size": 1024,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
}
FP8_BLOCK: dict[str, Any] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
LLAMA4: dict[str, Any] = {
    "architectures": ["Llama4ForCausalLM"],
    "model_type": "llama4_text",
    **_SMALL,
    "intermediate_size": 4096,
    "intermediate_size_mlp": 8192,
    "num_local_experts": 16,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
    "head_dim": 128,
}
T5: dict[str, Any] = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    "d_model": 512,
    "num_layers": 6,
    "num_heads": 8,
    "vocab_size": 32128,
}


def quantized(config: dict[str, Any], **said: Any) -> dict[str, Any]:
    """`config` of a checkpoint whose quantization is `said`."""
    return {**config, "quantization_config": said}


def modelopt(config: dict[str, Any], algorithm: str, **more: Any) -> dict[str, Any]:
    """`config` of a checkpoint that ModelOpt wrote."""
    return quantized(config, quant_method="modelopt", quant_algo=algorithm, **more)


SMALL_LLAMA: dict[str, Any] = {**LLAMA, "num_hidden_layers": 16, "vocab_size": 128256}
"""The model of the test recipe unless a row brings another."""
