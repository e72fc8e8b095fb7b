"""MoE backends against GPUs, formats and models."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import DEEPSEEK, FP8_BLOCK, GPT_OSS, LLAMA4, MIXTRAL, quantized

FIRES = (
    Fires(
        "moe-gpt-oss-backend",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: VANILLA}}",
        ),
        "engine.llm_args.moe_config.backend",
        "VANILLA does not know the expert bias and SwiGLU constants of gpt-oss",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS (or TRTLLM)",
        config={**GPT_OSS, "quantization_config": {"quant_method": "mxfp4"}},
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        "engine.llm_args.moe_config.backend",
        "the TRTLLM backend has kernels only for SM100, SM103, and h100 is SM90",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        "engine.llm_args.moe_config.backend",
        "the TRTLLM backend has kernels only for SM100, SM103, and rtx5090 is SM120",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "layout.gpu=dgx-spark",
            "engine.llm_args={moe_config: {backend: DEEPGEMM}}",
        ),
        "engine.llm_args.moe_config.backend",
        "the DEEPGEMM backend has kernels only for SM100, SM103, and dgx_spark is SM121",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.llm_args={moe_config: {backend: WIDEEP}}",
        ),
        "engine.llm_args.moe_config.backend",
        "the WIDEEP backend has kernels only for SM90, SM100, SM103, and rtx5090 is SM120",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.llm_args={moe_config: {backend: CUTEDSL}}",
        ),
        "engine.llm_args.moe_config.backend",
        "on SM120 only CUTLASS runs experts in every version, and this names CUTEDSL",
        hint=(
            "Write engine.llm_args.moe_config.backend: CUTLASS; late 1.3 versions have CUTEDSL "
            "kernels for one GPU without ep"
        ),
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={moe_config: {backend: CUTEDSL}}",
        ),
        "engine.llm_args.moe_config.backend",
        "on SM120 only CUTLASS runs experts in every version, and this names CUTEDSL",
        "warning",
        hint=(
            "Write engine.llm_args.moe_config.backend: CUTLASS; late 1.3 versions have CUTEDSL "
            "kernels for one GPU without ep"
        ),
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-on-gpu",
        (
            "model.source=hf://nobody/knows@0123456789abcdef0123456789abcdef01234567",
            "layout.gpu=H200",
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        "engine.llm_args.moe_config.backend",
        "the TRTLLM backend has kernels only for SM100, SM103, and h200 is SM90",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
    ),
    Fires(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the TRTLLM backend has no kernels for experts in FP8 on b200 (SM100): CUTLASS runs "
            "in its place with one line in the log, or the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-format",
        (
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the TRTLLM backend has no kernels for experts in FP8: CUTLASS runs in its place "
            "with one line in the log, or the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: DEEPGEMM}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the DEEPGEMM backend has no kernels for experts in NVFP4 on b200 (SM100): CUTLASS "
            "runs in its place with one line in the log, or the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: CUTLASS (or TRTLLM, CUTEDSL)",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "engine.tensorrt_llm='1.3.0rc20'",
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: DENSEGEMM}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the DENSEGEMM backend has no kernels for experts in FP8 on b200 (SM100): CUTLASS "
            "runs in its place with one line in the log, or the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-format",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: CUTLASS}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the CUTLASS backend has no kernels for experts in FP8 with block scales on b200 "
            "(SM100), so the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: TRTLLM (or DEEPGEMM)",
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Fires(
        "moe-backend-format",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: CUTEDSL}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the CUTEDSL backend has no kernels for experts in FP8 with block scales on b200 "
            "(SM100), so the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: TRTLLM (or DEEPGEMM)",
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Fires(
        "moe-backend-format",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: TRITON}}",
        ),
        "engine.llm_args.moe_config.backend",
        ("the TRITON backend has kernels for experts in MXFP4 on b200 (SM100) in some versions only"),
        "warning",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS (or TRTLLM)",
        config=GPT_OSS,
    ),
    Fires(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: CUTLASS}}",
            "quantize.overrides=[{modules: '*experts*', format: w4a8_nvfp4_fp8}]",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "the CUTLASS backend has no kernels for experts in NVFP4 weights with FP8 "
            "activations on b200 (SM100), so the server stops"
        ),
        hint="Write engine.llm_args.moe_config.backend: TRTLLM",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
            "quantize={method: none}",
            "quantize.format=null",
        ),
        "engine.llm_args.moe_config.backend",
        "the TRTLLM backend has kernels for experts in bf16 on b200 (SM100) in some versions only",
        "warning",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-default",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        "engine",
        (
            "no MoE backend is named, so CUTLASS runs, which has no kernels for experts in FP8 "
            "with block scales on b200 (SM100)"
        ),
        hint="Write engine.llm_args.moe_config.backend: TRTLLM (or DEEPGEMM)",
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Fires(
        "moe-backend-default",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B300",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={moe_config: {backend: AUTO}}",
        ),
        "engine.llm_args.moe_config.backend",
        (
            "AUTO names no MoE backend, and not every version then chooses one with kernels for "
            "experts in FP8 with block scales on b300 (SM103)"
        ),
        "warning",
        hint="Write engine.llm_args.moe_config.backend: TRTLLM (or DEEPGEMM)",
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Fires(
        "moe-backend-default",
        (
            "layout.gpu=B200",
            "quantize.format=w4a8_nvfp4_fp8",
        ),
        "engine",
        (
            "no MoE backend is named, so CUTLASS runs, which has no kernels for experts in NVFP4 "
            "weights with FP8 activations on b200 (SM100)"
        ),
        hint="Write engine.llm_args.moe_config.backend: TRTLLM",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-slow",
        ("layout.gpu=B200",),
        "engine",
        (
            "no MoE backend is named, so CUTLASS runs; without attention DP upstream's own "
            "configurations take TRTLLM for NVFP4 on b200"
        ),
        "warning",
        hint="Write engine.llm_args.moe_config.backend: TRTLLM and measure, or name CUTLASS to keep it",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-slow",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        "engine",
        (
            "no MoE backend is named, so CUTLASS runs; without attention DP upstream's own "
            "configurations take TRTLLM for MXFP4 on b200"
        ),
        "warning",
        hint="Write engine.llm_args.moe_config.backend: TRTLLM and measure, or name CUTLASS to keep it",
        config=GPT_OSS,
    ),
    Fires(
        "moe-backend-slow",
        (
            "layout.gpu=H100",
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: VANILLA}}",
        ),
        "engine.llm_args.moe_config.backend",
        "VANILLA computes expert after expert in plain PyTorch, to compare numbers with",
        "warning",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS",
        config=MIXTRAL,
    ),
    Fires(
        "moe-gpt-oss-backend",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: DEEPGEMM}}",
        ),
        "engine.llm_args.moe_config.backend",
        "DEEPGEMM does not know the expert bias and SwiGLU constants of gpt-oss",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS (or TRTLLM)",
        config=GPT_OSS,
    ),
    Fires(
        "moe-gpt-oss-backend",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "engine.llm_args={moe_config: {backend: CUTEDSL}}",
        ),
        "engine.llm_args.moe_config.backend",
        "CUTEDSL does not know the expert bias and SwiGLU constants of gpt-oss",
        hint="Write engine.llm_args.moe_config.backend: TRTLLM (or CUTLASS, TRITON)",
        config=GPT_OSS,
    ),
    Fires(
        "moe-low-precision-combine",
        (
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: CUTLASS, use_low_precision_moe_combine: true}}",
        ),
        "engine.llm_args.moe_config.use_low_precision_moe_combine",
        "only NVFP4 experts can be combined in low precision, and these are FP8",
        hint="Remove use_low_precision_moe_combine, or use an NVFP4 checkpoint",
        config=MIXTRAL,
    ),
    Fires(
        "moe-backend-retired",
        (
            "layout.gpu=B200",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={moe_config: {backend: WIDEEP}}",
        ),
        "engine.llm_args.moe_config.backend",
        "upstream has retired WIDEEP: late 1.3 versions refuse the name at start",
        "warning",
        hint="Write engine.llm_args.moe_config.backend: CUTLASS (or TRTLLM, CUTEDSL, DENSEGEMM)",
        config=MIXTRAL,
    ),
    Fires(
        "moe-config-on-dense",
        ("engine.llm_args={moe_config: {backend: CUTLASS}}",),
        "engine.llm_args.moe_config",
        "llama has no experts, so moe_config has no effect",
        "warning",
        hint="Remove moe_config",
    ),
    Fires(
        "moe-min-latency-model",
        ("engine.llm_args={enable_min_latency: true}",),
        "engine.llm_args.enable_min_latency",
        "the minimum-latency path is written for Llama 4, and this model is llama",
        hint="Remove enable_min_latency",
    ),
    Fires(
        "moe-min-latency-model",
        ("engine.llm_args={enable_min_latency: true}",),
        "engine.llm_args.enable_min_latency",
        "the minimum-latency path is written for Llama 4, and this model is mixtral",
        hint="Remove enable_min_latency",
        config=MIXTRAL,
    ),
)
SILENT = (
    Silent("moe-backend-slow", ("layout.gpu=B200", "engine.llm_args={moe_config: TRTLLM}"), MIXTRAL),
    Silent("moe-backend-slow", ("engine.llm_args={moe_config: {backend: VANILLA}}",), GPT_OSS),
    Silent(
        "moe-backend-on-gpu", ("layout.gpu=B200", "engine.llm_args={moe_config: {backend: MARLIN}}"), MIXTRAL
    ),
    Silent(
        "moe-backend-on-gpu",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-on-gpu",
        (
            "layout.gpu=B300",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.llm_args={moe_config: {backend: CUTLASS}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-on-gpu",
        (
            "layout.gpu=H100",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
    ),
    Silent(
        "moe-backend-on-gpu",
        (
            "layout.gpu=H100",
            "engine.llm_args={moe_config: {backend: [TRTLLM]}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-on-gpu",
        (
            "layout.gpu=H100",
            "engine.llm_args={moe_config: TRTLLM}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-format",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: DEEPGEMM}}",
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Silent(
        "moe-backend-format",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H200",
            "engine.llm_args={moe_config: {backend: CUTLASS}}",
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Silent(
        "moe-backend-format",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H100",
            "engine.llm_args={moe_config: {backend: TRITON}}",
        ),
        config=GPT_OSS,
    ),
    Silent(
        "moe-backend-format",
        (
            "layout.gpu=B200",
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: CUTLASS}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-format",
        (
            "quantize={recipe: general/x, format: null}",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-default",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: DEEPGEMM}}",
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Silent(
        "moe-backend-default",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H100",
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Silent(
        "moe-backend-default",
        (
            "layout.gpu=B200",
            "serve.runtime=reference",
            "quantize.format=w4a8_nvfp4_fp8",
        ),
        config=MIXTRAL,
    ),
    Silent("moe-backend-default", ("layout.gpu=B200",), config=MIXTRAL),
    Silent(
        "moe-backend-slow",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        config=MIXTRAL,
    ),
    Silent("moe-backend-slow", ("layout={gpu: B200, attention_dp: true}",), config=MIXTRAL),
    Silent(
        "moe-backend-slow",
        (
            "layout.gpu=B200",
            "quantize.format=fp8",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-slow",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.tensorrt_llm='1.3.0rc20'",
        ),
        config=GPT_OSS,
    ),
    Silent("moe-backend-slow", ("layout.gpu=B200",)),
    Silent(
        "moe-gpt-oss-backend",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: TRTLLM}}",
        ),
        config=GPT_OSS,
    ),
    Silent(
        "moe-gpt-oss-backend",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: DEEPGEMM}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-low-precision-combine",
        ("engine.llm_args={moe_config: {backend: CUTLASS, use_low_precision_moe_combine: true}}",),
        config=MIXTRAL,
    ),
    Silent(
        "moe-low-precision-combine",
        (
            "quantize.format=fp8",
            "engine.llm_args={moe_config: {backend: CUTLASS, use_low_precision_moe_combine: false}}",
        ),
        config=MIXTRAL,
    ),
    Silent(
        "moe-backend-retired",
        (
            "layout.gpu=B200",
            "engine.llm_args={moe_config: {backend: WIDEEP}}",
        ),
        config=MIXTRAL,
    ),
    Silent("moe-config-on-dense", ("engine.llm_args={moe_config: {backend: CUTLASS}}",), config=MIXTRAL),
    Silent("moe-config-on-dense", ("engine.llm_args={moe_config: {}}",)),
    Silent("moe-min-latency-model", ("engine.llm_args={enable_min_latency: true}",), config=LLAMA4),
    Silent("moe-min-latency-model", ("engine.llm_args={enable_min_latency: false}",)),
)
