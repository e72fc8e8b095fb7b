"""The KV cache: formats, pools, and options that need each other."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import LLAMA, T5, modelopt

FIRES = (
    Fires(
        "quantize-kv-cache-on-gpu",
        (
            "layout.gpu=RTX5090",
            "quantize.kv_cache=nvfp4",
        ),
        "quantize.kv_cache",
        "TensorRT-LLM has no nvfp4 KV cache kernels for rtx5090 (SM120)",
        hint="Set quantize.kv_cache: fp8",
    ),
    Fires(
        "quantize-kv-cache-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.kv_cache=nvfp4",
        ),
        "quantize.kv_cache",
        "TensorRT-LLM has no nvfp4 KV cache kernels for h100 (SM90)",
        hint="Set quantize.kv_cache: fp8",
    ),
    Fires(
        "quantize-kv-cache-on-gpu",
        (
            "layout.gpu=dgx-spark",
            "quantize.kv_cache=fp8",
        ),
        "quantize.kv_cache",
        "TensorRT-LLM has no fp8 KV cache kernels for dgx_spark (SM121) that upstream documents",
        "warning",
        hint="Try it there before you rely on it",
    ),
    Fires(
        "quantize-kv-cache-nvfp4-gate",
        ("quantize.kv_cache=nvfp4",),
        "quantize.kv_cache",
        "an nvfp4 KV cache can cost much accuracy, and no gate watches it",
        "warning",
        hint="Set gate.max_perplexity_increase, for example 0.03",
    ),
    Fires(
        "kv-dtype-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "TensorRT-LLM has no nvfp4 KV cache kernels for rtx5090 (SM120)",
        hint="Write engine.llm_args.kv_cache_config.dtype: fp8",
    ),
    Fires(
        "kv-dtype-on-gpu",
        (
            "layout.gpu=H100",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {dtype: NVFP4}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "TensorRT-LLM has no nvfp4 KV cache kernels for h100 (SM90)",
        hint="Write engine.llm_args.kv_cache_config.dtype: fp8",
    ),
    Fires(
        "kv-dtype-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=RTX5090",
        ),
        "model.source",
        "TensorRT-LLM has no nvfp4 KV cache kernels for rtx5090 (SM120)",
        hint=("Take a checkpoint with an FP8 KV cache or none, or one of the GPUs b200, b300, gb200, gb300"),
        config=modelopt(LLAMA, "NVFP4", kv_cache_scheme={"num_bits": 4, "type": "float"}),
    ),
    Fires(
        "kv-dtype-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=dgx-spark",
        ),
        "model.source",
        "TensorRT-LLM has no fp8 KV cache kernels for dgx_spark (SM121) that upstream documents",
        "warning",
        hint="Try it there before you rely on it",
        config=modelopt(LLAMA, "NVFP4", kv_cache_quant_algo="FP8"),
    ),
    Fires(
        "kv-dtype-contradicts",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "quantize.kv_cache=fp8",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "the checkpoint carries scales of an FP8 KV cache, and this asks for nvfp4",
        hint="Remove dtype: auto takes what the checkpoint carries",
    ),
    Fires(
        "kv-dtype-contradicts",
        (
            "quantize.kv_cache=nvfp4",
            "engine.llm_args={kv_cache_config: {dtype: fp8}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "the checkpoint carries scales of an NVFP4 KV cache, and this asks for fp8",
        hint="Remove dtype: auto takes what the checkpoint carries",
    ),
    Fires(
        "kv-dtype-contradicts",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "engine.llm_args={kv_cache_config: {dtype: fp8}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "the checkpoint carries scales of an NVFP4 KV cache, and this asks for fp8",
        hint="Remove dtype: auto takes what the checkpoint carries",
        config=modelopt(LLAMA, "NVFP4", kv_cache_quant_algo="NVFP4"),
    ),
    Fires(
        "kv-dtype-without-scales",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "an nvfp4 KV cache needs scales in the checkpoint, and this one carries none",
        hint="Set quantize.kv_cache: nvfp4 and remove dtype here, or write dtype: fp8",
    ),
    Fires(
        "kv-dtype-without-scales",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "an nvfp4 KV cache needs scales in the checkpoint, and this one carries none",
        hint="Write dtype: fp8, or quantize the bf16 model with quantize.kv_cache: nvfp4",
        config=modelopt(LLAMA, "NVFP4"),
    ),
    Fires(
        "kv-dtype-unchecked",
        (
            "quantize.kv_cache=nvfp4",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        ("TensorRT-LLM 1.2.1 does not check this value, and not every version up to 1.2 takes nvfp4 here"),
        "warning",
        hint="Remove dtype: auto takes what the checkpoint carries",
    ),
    Fires(
        "kv-dtype-on-engine-backend",
        (
            "engine.backend=tensorrt",
            "engine.llm_args={kv_cache_config: {dtype: fp8}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "the engine backend asserts that dtype is auto, and this is fp8",
        hint="Remove it here and set quantize.kv_cache: fp8",
    ),
    Fires(
        "kv-dtype-on-engine-backend",
        (
            "engine.backend=tensorrt",
            "quantize={method: prequantized}",
            "quantize.format=null",
            "engine.llm_args={kv_cache_config: {dtype: fp8}}",
        ),
        "engine.llm_args.kv_cache_config.dtype",
        "the engine backend asserts that dtype is auto, and this is fp8",
        hint="Remove it here",
        config=modelopt(LLAMA, "NVFP4", kv_cache_quant_algo="NVFP4"),
    ),
    Fires(
        "kv-disk-cache",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {disk_cache_size: 1000000, disk_cache_path: /cache}}",
        ),
        "engine.llm_args.kv_cache_config.disk_cache_size",
        "only KV cache manager v2 keeps blocks on disk, and it is not switched on",
        hint="Write engine.llm_args.kv_cache_config.use_kv_cache_manager_v2: true",
    ),
    Fires(
        "kv-disk-cache",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            ("engine.llm_args={kv_cache_config: {disk_cache_size: 1000000, use_kv_cache_manager_v2: true}}"),
        ),
        "engine.llm_args.kv_cache_config.disk_cache_size",
        "a disk cache needs a directory, and kv_cache_config.disk_cache_path is not given",
        hint="Write engine.llm_args.kv_cache_config.disk_cache_path: /a/directory/of/the/server",
    ),
    Fires(
        "kv-pool-ratio",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {pool_ratio: [0.5, 0.6]}}",
        ),
        "engine.llm_args.kv_cache_config.pool_ratio",
        "the shares of the pools must sum to 1.0, and these sum to 1.1",
        hint="Write [0.455, 0.545], the same proportions",
    ),
    Fires(
        "kv-pool-ratio",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {pool_ratio: [1, 1, 1]}}",
        ),
        "engine.llm_args.kv_cache_config.pool_ratio",
        "the shares of the pools must sum to 1.0, and these sum to 3",
        hint="Write [0.333, 0.333, 0.334], the same proportions",
    ),
    Fires(
        "kv-pool-ratio",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {pool_ratio: [0.5, 0.5, 0]}}",
        ),
        "engine.llm_args.kv_cache_config.pool_ratio[2]",
        "the share of a pool must be above 0, and this is 0",
        hint="Write shares above 0 whose sum is 1.0",
    ),
    Fires(
        "kv-attention-window",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {max_attention_window: [4096, 0]}}",
        ),
        "engine.llm_args.kv_cache_config.max_attention_window[1]",
        "an attention window is a number of tokens above 0, and this is 0",
        hint="Write 8192 (engine.max_seq_len) for a layer that sees everything",
    ),
    Fires(
        "kv-cross-fraction",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {cross_kv_cache_fraction: 0.5}}",
        ),
        "engine.llm_args.kv_cache_config.cross_kv_cache_fraction",
        "only encoder-decoder models have a cross-attention cache, and this model is decoder-only",
        hint="Remove it",
    ),
    Fires(
        "kv-cross-fraction",
        ("engine.llm_args={kv_cache_config: {cross_kv_cache_fraction: 0.5}}",),
        "engine.llm_args.kv_cache_config.cross_kv_cache_fraction",
        "only encoder-decoder models have a cross-attention cache, and this model is decoder-only",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "kv-cross-fraction",
        ("engine.tensorrt_llm='1.3.0rc20'",),
        "engine.llm_args.kv_cache_config",
        "an encoder-decoder model splits the cache between two attentions, and no share is given",
        hint="Write engine.llm_args.kv_cache_config.cross_kv_cache_fraction: 0.5",
        config=T5,
    ),
    Fires(
        "kv-manager-v2-draft",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "speculative={method: mtp}",
            "engine.llm_args={kv_cache_config: {use_kv_cache_manager_v2: true}}",
        ),
        "engine.llm_args.kv_cache_config.use_kv_cache_manager_v2",
        ("KV cache manager v2 gave target and draft the whole budget each, until a fix of March 2026"),
        "warning",
        hint=("Remove use_kv_cache_manager_v2, or make sure that your TensorRT-LLM has pull request 12188"),
    ),
    Fires(
        "kv-manager-v2-draft",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            (
                "engine.llm_args={kv_cache_config: {use_kv_cache_manager_v2: true}, "
                "speculative_config: {decoding_type: Eagle3, max_draft_len: 3}}"
            ),
        ),
        "engine.llm_args.kv_cache_config.use_kv_cache_manager_v2",
        ("KV cache manager v2 gave target and draft the whole budget each, until a fix of March 2026"),
        "warning",
        hint=("Remove use_kv_cache_manager_v2, or make sure that your TensorRT-LLM has pull request 12188"),
    ),
    Fires(
        "kv-reuse-unused",
        (("engine.llm_args={kv_cache_config: {enable_block_reuse: false, enable_partial_reuse: true}}"),),
        "engine.llm_args.kv_cache_config.enable_partial_reuse",
        "enable_block_reuse is false, so enable_partial_reuse has no effect",
        "warning",
        hint="Remove enable_partial_reuse, or set enable_block_reuse: true",
    ),
)
SILENT = (
    Silent(
        "quantize-kv-cache-on-gpu",
        (
            "layout.gpu=B300",
            "quantize.kv_cache=nvfp4",
        ),
    ),
    Silent(
        "quantize-kv-cache-on-gpu",
        (
            "layout.gpu=RTX5090",
            "quantize.kv_cache=fp8",
        ),
    ),
    Silent(
        "quantize-kv-cache-nvfp4-gate",
        (
            "quantize.kv_cache=nvfp4",
            "gate.max_perplexity_increase=0.1",
        ),
    ),
    Silent("quantize-kv-cache-nvfp4-gate", ("quantize.kv_cache=fp8",)),
    Silent(
        "kv-dtype-on-gpu",
        (
            "layout.gpu=B200",
            "engine.tensorrt_llm='1.3.0rc20'",
            "quantize.kv_cache=nvfp4",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
    ),
    Silent(
        "kv-dtype-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.llm_args={kv_cache_config: {dtype: fp8}}",
        ),
    ),
    Silent(
        "kv-dtype-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.llm_args={kv_cache_config: {dtype: 4}}",
        ),
    ),
    Silent(
        "kv-dtype-contradicts",
        (
            "quantize.kv_cache=fp8",
            "engine.llm_args={kv_cache_config: {dtype: fp8}}",
        ),
    ),
    Silent(
        "kv-dtype-contradicts",
        (
            "quantize.kv_cache=nvfp4",
            "engine.llm_args={kv_cache_config: {dtype: auto}}",
        ),
    ),
    Silent("kv-dtype-contradicts", ("engine.llm_args={kv_cache_config: {dtype: fp8}}",)),
    Silent(
        "kv-dtype-without-scales",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "quantize.kv_cache=nvfp4",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
    ),
    Silent(
        "kv-dtype-without-scales",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
        config=modelopt(LLAMA, "NVFP4", kv_cache_quant_algo="NVFP4"),
    ),
    Silent(
        "kv-dtype-without-scales",
        (
            "quantize={recipe: general/x, format: null}",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
    ),
    Silent(
        "kv-dtype-unchecked",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "quantize.kv_cache=nvfp4",
            "engine.llm_args={kv_cache_config: {dtype: nvfp4}}",
        ),
    ),
    Silent("kv-dtype-unchecked", ("engine.llm_args={kv_cache_config: {dtype: nvfp4}}",)),
    Silent("kv-dtype-unchecked", ("engine.llm_args={kv_cache_config: {dtype: fp8}}",)),
    Silent(
        "kv-dtype-on-engine-backend",
        (
            "engine.backend=tensorrt",
            "engine.llm_args={kv_cache_config: {dtype: auto}}",
        ),
    ),
    Silent("kv-dtype-on-engine-backend", ("engine.llm_args={kv_cache_config: {dtype: fp8}}",)),
    Silent(
        "kv-disk-cache",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            (
                "engine.llm_args={kv_cache_config: {disk_cache_size: 1000000, disk_cache_path: "
                "/cache, use_kv_cache_manager_v2: true}}"
            ),
        ),
    ),
    Silent(
        "kv-disk-cache",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {disk_cache_size: 0}}",
        ),
    ),
    Silent("kv-disk-cache", ("engine.llm_args={kv_cache_config: {disk_cache_size: 1000000}}",)),
    Silent(
        "kv-pool-ratio",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {pool_ratio: [0.3, 0.3, 0.4]}}",
        ),
    ),
    Silent(
        "kv-pool-ratio",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {pool_ratio: []}}",
        ),
    ),
    Silent(
        "kv-attention-window",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {max_attention_window: [1, 4096]}}",
        ),
    ),
    Silent("kv-attention-window", ("engine.llm_args={kv_cache_config: {max_attention_window: [0]}}",)),
    Silent(
        "kv-cross-fraction",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {cross_kv_cache_fraction: 0.5}}",
        ),
        config=T5,
    ),
    Silent("kv-cross-fraction", (), config=T5),
    Silent("kv-cross-fraction", ("engine.tensorrt_llm='1.3.0rc20'",)),
    Silent(
        "kv-manager-v2-draft",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={kv_cache_config: {use_kv_cache_manager_v2: true}}",
        ),
    ),
    Silent(
        "kv-manager-v2-draft",
        (
            "engine.tensorrt_llm='1.3.0rc20'",
            "speculative={method: mtp}",
        ),
    ),
    Silent(
        "kv-reuse-unused",
        (("engine.llm_args={kv_cache_config: {enable_block_reuse: true, enable_partial_reuse: true}}"),),
    ),
    Silent("kv-reuse-unused", ("engine.llm_args={kv_cache_config: {enable_block_reuse: false}}",)),
)
