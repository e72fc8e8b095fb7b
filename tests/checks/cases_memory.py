"""Rows of the rules on memory."""

from __future__ import annotations

from typing import Any

from tests.checks.cases import Fires, Silent


def _llama(hidden: int, layers: int, heads: int, width: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": width,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    }


_70B = _llama(8192, 80, 64, 28672)
_405B = _llama(16384, 126, 128, 53248)
_R1 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "first_k_dense_replace": 3,
    "num_nextn_predict_layers": 1,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
_FLUX = {
    "_class_name": "FluxTransformer2DModel",
    "num_layers": 19,
    "num_single_layers": 38,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
_B200 = "layout.gpu=B200"
_H100 = "layout.gpu=H100"
_5090 = "layout.gpu=RTX5090"
_NONE = "quantize={method: none}"
_EIGHT = "layout={gpu: B200, gpus_per_node: 8, tp: 8, ep: 8}"
_DEEPGEMM = "engine.llm_args.moe_config={backend: DEEPGEMM}"
_MTP = "speculative={method: mtp}"
_PREQUANTIZED = "quantize={method: prequantized}"
_FRACTION = "engine.llm_args.kv_cache_config.free_gpu_memory_fraction"

FIRES: tuple[Fires, ...] = (
    Fires(
        rule="memory-weights",
        overrides=(_B200,),
        config=_405B,
        path="layout",
        message="the weights take 218.2 GiB on each GPU, but b200 shows 179.1 GiB",
        hint="Fits with tp: 2 (109.1 GiB of weights each) or pp: 2 (109.1 GiB of weights each)",
    ),
    Fires(
        rule="memory-weights",
        overrides=(_H100, _NONE),
        config=_70B,
        path="layout",
        message="the weights take 131.4 GiB on each GPU, but h100 shows 79.6 GiB",
        hint="Fits with tp: 2 (65.7 GiB of weights each) or pp: 2 (65.7 GiB of weights each) "
        "or quantize.format: fp8 (67.7 GiB of weights each)",
    ),
    Fires(
        rule="memory-weights",
        overrides=(_5090, _NONE),
        config=_FLUX,
        path="layout.gpu",
        message="the whole pipeline takes 31.9 GiB, but rtx5090 shows 31.8 GiB",
        hint="Load one engine at a time (--low-vram): 22.3 GiB",
    ),
    Fires(
        rule="memory-kv-room",
        overrides=(_5090, "engine.max_seq_len=1048576"),
        path="engine.max_seq_len",
        message="no room for one request of 1048576 tokens: it needs 32.0 GiB of KV cache on each GPU, "
        "and 23.7 GiB are left for it",
        hint="Lower it to 776448; fits with tp: 2 (0.7 GiB of weights each) "
        "or pp: 2 (0.7 GiB of weights each)",
    ),
    Fires(
        rule="memory-kv-room",
        overrides=(_H100, "quantize.format=fp8"),
        config=_70B,
        path="engine.max_seq_len",
        severity="warning",
        message="room for 2 of 64 requests of 8192 tokens: 6.1 GiB of KV cache on each GPU",
        hint="Lower max_seq_len or max_batch_size, or set quantize.kv_cache: fp8",
    ),
    Fires(
        rule="memory-batch-beyond-room",
        overrides=(_B200, "engine.max_batch_size=256"),
        config=_70B,
        path="engine.max_batch_size",
        severity="info",
        message="the KV cache holds 48 of 256 requests of 8192 tokens; the others will wait",
        hint="Right when most requests are shorter; else 48",
    ),
    Fires(
        rule="memory-cuda-graphs",
        overrides=(_H100, "quantize.format=fp8"),
        config=_70B,
        path="engine",
        severity="info",
        message="33 CUDA graphs may take up to 6.1 GiB, and 0.7 GiB are left beside the KV cache",
        hint="Name fewer cuda_graph_config.batch_sizes, or lower kv_cache_config.free_gpu_memory_fraction",
    ),
    Fires(
        rule="memory-deepgemm-mtp",
        overrides=(_EIGHT, _PREQUANTIZED, _MTP, _DEEPGEMM),
        config=_R1,
        path=_FRACTION,
        severity="warning",
        message="0.9 of the free memory for the KV cache: FP8 DeepSeek with DEEPGEMM and MTP ran out of "
        "memory on B200 at 0.6",
        hint="Set it to 0.5, or use moe_config.backend: TRTLLM",
    ),
    Fires(
        rule="memory-unified",
        overrides=("layout.gpu=dgx-spark",),
        path="layout.gpu",
        severity="info",
        message="dgx_spark shares its 119.7 GiB with the CPU: a KV share of 0.9 also takes what the "
        "system needs",
        hint="Read MemAvailable in /proc/meminfo there (nvidia-smi shows none) and set "
        "kv_cache_config.free_gpu_memory_fraction accordingly",
    ),
    Fires(
        rule="memory-quantization-step",
        overrides=(_H100, "quantize.format=fp8"),
        config=_70B,
        path="quantize",
        severity="warning",
        message="ptq needs about 133.2 GiB on one GPU, more than the 79.6 GiB of h100",
        hint="Offload the weights to the CPU (about 131.4 GiB of host memory), or run it on 2 such GPUs",
    ),
    Fires(
        rule="memory-quantization-step",
        overrides=("layout={gpu: B200, gpus_per_node: 8, tp: 8}", "quantize.method=qat"),
        config=_405B,
        path="quantize",
        severity="warning",
        message="qat needs about 6,983.5 GiB on one GPU, more than the 179.1 GiB of b200",
        hint="Run it on 64 such GPUs",
    ),
    Fires(
        rule="memory-quantization-step",
        overrides=("layout={gpu: B200, gpus_per_node: 8, tp: 8}", "quantize.method=qat"),
        config=_70B,
        path="quantize",
        severity="warning",
        message="qat needs about 1,236.3 GiB on one GPU, more than the 179.1 GiB of b200",
        hint="Set quantize.training.gradient_checkpointing: true and gpus: 8 "
        "(about 137.9 GiB on each of 8 GPUs)",
    ),
    Fires(
        rule="memory-quantization-step",
        overrides=(_5090, "quantize.calibration={batch_size: 4096, seq_len: 65536}"),
        path="quantize",
        message="ptq needs about 78,466.9 GiB on one GPU, more than the 31.8 GiB of rtx5090",
        hint="Lower calibration.batch_size or seq_len, or quantize on a GPU with more memory",
    ),
)

SILENT: tuple[Silent, ...] = (
    Silent("memory-weights", ("layout={gpu: B200, gpus_per_node: 2, tp: 2}",), _405B),
    Silent("memory-weights", (_5090, "quantize.format=fp8"), _FLUX),
    Silent("memory-weights", (), _405B),
    Silent("memory-kv-room", (_B200,), _70B),
    Silent("memory-kv-room", (_H100, "quantize.format=fp8", "engine.max_batch_size=2"), _70B),
    # The weights do not fit either: one error says enough.
    Silent("memory-kv-room", (_B200,), _405B),
    Silent("memory-batch-beyond-room", (_B200, "engine.max_batch_size=128"), _70B),
    Silent("memory-cuda-graphs", (_B200,)),
    Silent(
        "memory-cuda-graphs", (_H100, "quantize.format=fp8", "engine.llm_args.cuda_graph_config=null"), _70B
    ),
    Silent("memory-deepgemm-mtp", (_EIGHT, _PREQUANTIZED, _MTP, _DEEPGEMM, f"{_FRACTION}=0.5"), _R1),
    Silent("memory-deepgemm-mtp", (_EIGHT, _PREQUANTIZED, _DEEPGEMM), _R1),
    Silent("memory-deepgemm-mtp", (_EIGHT, _MTP, _DEEPGEMM), _R1),
    Silent("memory-unified", (_B200,)),
    Silent("memory-quantization-step", (_B200,), _70B),
    Silent("memory-quantization-step", ("layout={gpu: H100, gpus_per_node: 8, tp: 8}",), _70B),
    Silent("memory-quantization-step", (_H100, _NONE), _70B),
    Silent("memory-quantization-step", ("quantize.format=fp8",), _70B),
)
