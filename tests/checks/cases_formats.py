"""Formats of sources and models against GPUs, and options with kernels of their own."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import (
    DEEPSEEK,
    FP8_BLOCK,
    GEMMA,
    GPT_OSS,
    LLAMA,
    MIXTRAL,
    PHI,
    T5,
    modelopt,
    quantized,
)

FIRES = (
    Fires(
        "format-source-unknown",
        ("quantize={method: prequantized}", "quantize.format=null"),
        "model.source",
        "the source says that it is quantized as 'FP6_SOMEHOW', of which nothing is known here",
        "warning",
        hint="Make sure that your TensorRT-LLM version reads it",
        config={**LLAMA, "quantization_config": {"quant_algo": "FP6_SOMEHOW"}},
    ),
    Fires(
        "format-source-unknown",
        ("quantize={method: prequantized}", "quantize.format=null"),
        "model.source",
        "the source says that it is quantized as 'bitsandbytes', of which nothing is known here",
        "warning",
        config={**LLAMA, "quantization_config": {"quant_method": "bitsandbytes"}},
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H200",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={moe_config: {backend: MARLIN}}",
        ),
        "model.source",
        ("the source is NVFP4, for which TensorRT-LLM has no kernels on h200 (SM90) that upstream documents"),
        "warning",
        config={**MIXTRAL, "quantization_config": {"quant_algo": "NVFP4"}},
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        "model.source",
        "the source is W4A16 AWQ, for which TensorRT-LLM has no kernels on b200 (SM100)",
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: nvfp4}, or "
            "choose one of the GPUs h100, h200"
        ),
        config=quantized(LLAMA, quant_method="awq", bits=4),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B300",
        ),
        "model.source",
        "the source is W4A16 GPTQ, for which TensorRT-LLM has no kernels on b300 (SM103)",
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: nvfp4}, or "
            "choose one of the GPUs h100, h200"
        ),
        config=quantized(LLAMA, quant_method="gptq", bits=4),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=RTX5090",
        ),
        "model.source",
        "the source is W4A8 AWQ, for which TensorRT-LLM has no kernels on rtx5090 (SM120)",
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: nvfp4}, or "
            "choose one of the GPUs h100, h200"
        ),
        config=modelopt(LLAMA, "W4A8_AWQ"),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        "model.source",
        "the source is row-wise FP8, for which TensorRT-LLM has no kernels on b200 (SM100)",
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: nvfp4}, or "
            "choose one of the GPUs h100, h200"
        ),
        config=modelopt(LLAMA, "FP8_PER_CHANNEL_PER_TOKEN"),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=RTX5090",
        ),
        "model.source",
        ("the source is FP8 with block scales, for which TensorRT-LLM has no kernels on rtx5090 (SM120)"),
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: nvfp4}, or "
            "choose one of the GPUs b200, b300, gb200, gb300, h100, h200"
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=RTX5090",
            "engine.tensorrt_llm='1.3.0rc20'",
        ),
        "model.source",
        (
            "the source is FP8 with block scales, for which TensorRT-LLM has no kernels on "
            "rtx5090 (SM120) that upstream documents"
        ),
        "warning",
        hint="Try it there before you rely on it",
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H100",
        ),
        "model.source",
        "the source is NVFP4, for which TensorRT-LLM has no kernels on h100 (SM90)",
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: fp8}, or "
            "choose one of the GPUs b200, b300, gb200, gb300, rtx5090, rtx_pro_6000"
        ),
        config=modelopt(LLAMA, "NVFP4"),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H100",
        ),
        "model.source",
        "the source is NVFP4, for which TensorRT-LLM has no kernels on h100 (SM90)",
        hint=(
            "Name the bf16 model as model.source with quantize: {method: ptq, format: fp8}, or "
            "choose one of the GPUs b200, b300, gb200, gb300, rtx5090, rtx_pro_6000"
        ),
        config=modelopt(
            LLAMA,
            "MIXED_PRECISION",
            quantized_layers={
                "model.layers.0.mlp.up_proj": {"quant_algo": "FP8"},
                "model.layers.1.mlp.up_proj": {"quant_algo": "NVFP4"},
            },
        ),
    ),
    Fires(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=dgx-spark",
        ),
        "model.source",
        (
            "the source is NVFP4, for which TensorRT-LLM has no kernels on dgx_spark (SM121) "
            "that upstream documents"
        ),
        "warning",
        hint="Try it there before you rely on it",
        config=modelopt(LLAMA, "NVFP4"),
    ),
    Fires(
        "format-fp4-engine-on-sm120",
        (
            "layout.gpu=RTX5090",
            "engine.backend=tensorrt",
        ),
        "engine.backend",
        "trtllm-build makes no NVFP4 engines for rtx5090 (SM120)",
        hint="Set engine.backend: pytorch, or take FP8 weights for an engine",
    ),
    Fires(
        "format-fp4-engine-on-sm120",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=dgx-spark",
            "engine.backend=tensorrt",
        ),
        "engine.backend",
        "trtllm-build makes no NVFP4 engines for dgx_spark (SM121)",
        hint="Set engine.backend: pytorch, or take FP8 weights for an engine",
        config=modelopt(LLAMA, "NVFP4"),
    ),
    Fires(
        "format-int8-slow",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B300",
        ),
        "model.source",
        (
            "the source is INT8 (SmoothQuant), and b300 computes INT8 at 1/29 of its FP8 rate "
            "(153.5 against 4500 TFLOPS)"
        ),
        hint="Name the bf16 model as model.source with quantize: {method: ptq, format: fp8}",
        config=modelopt(LLAMA, "W8A8_SQ_PER_CHANNEL"),
    ),
    Fires(
        "format-known-bad-model",
        ("layout.gpu=RTX5090",),
        "quantize.format",
        (
            "Gemma NVFP4 did not serve on TensorRT-LLM 1.3.0rc22 on SM120, where kernels are "
            "made model by model; this model is gemma3_text"
        ),
        "warning",
        hint="Take FP8 weights, or try this pair with your TensorRT-LLM version before you build on it",
        config=GEMMA,
    ),
    Fires(
        "format-known-bad-model",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=RTX-PRO-6000",
        ),
        "model.source",
        (
            "Gemma NVFP4 did not serve on TensorRT-LLM 1.3.0rc22 on SM120, where kernels are "
            "made model by model; this model is gemma3_text"
        ),
        "warning",
        hint="Take FP8 weights, or try this pair with your TensorRT-LLM version before you build on it",
        config=modelopt(GEMMA, "NVFP4"),
    ),
    Fires(
        "format-unlisted-model",
        ("layout.gpu=B200",),
        "quantize.format",
        "TensorRT-LLM's table of models and formats (about 1.2) does not list NVFP4 for Gemma 3",
        "warning",
        hint=(
            "The table may lag: serve one checkpoint with the pinned version and measure its "
            "accuracy first; listed: FP8, W4A16 AWQ, W4A8 AWQ"
        ),
        config=GEMMA,
    ),
    Fires(
        "format-unlisted-model",
        ("quantize.format=fp8",),
        "quantize.format",
        "TensorRT-LLM's table of models and formats (about 1.2) does not list FP8 for Phi",
        "warning",
        hint=(
            "The table may lag: serve one checkpoint with the pinned version and measure its "
            "accuracy first; listed: W4A8 AWQ"
        ),
        config=PHI,
    ),
    Fires(
        "format-unlisted-model",
        ("quantize.format=w4a8_mxfp4_fp8",),
        "quantize.format",
        "TensorRT-LLM's table of models and formats (about 1.2) does not list MXFP4 for LLaMA",
        "warning",
        hint=(
            "The table may lag: serve one checkpoint with the pinned version and measure its "
            "accuracy first; listed: FP8, NVFP4, W4A16 AWQ, W4A16 GPTQ, W4A8 AWQ, row-wise FP8"
        ),
    ),
    Fires(
        "format-unlisted-model",
        ("quantize.format=fp8_block_weight_only",),
        "quantize.format",
        (
            "TensorRT-LLM's table of models and formats (about 1.2) does not list FP8 with block "
            "scales for LLaMA"
        ),
        "warning",
        hint=(
            "The table may lag: serve one checkpoint with the pinned version and measure its "
            "accuracy first; listed: FP8, NVFP4, W4A16 AWQ, W4A16 GPTQ, W4A8 AWQ, row-wise FP8"
        ),
    ),
    Fires(
        "format-unlisted-model",
        (),
        "quantize.format",
        ("TensorRT-LLM's table of models and formats (about 1.2) does not list NVFP4 for nemotron models"),
        "warning",
        hint=(
            "The table may lag: serve one checkpoint with the pinned version and measure its accuracy first"
        ),
        config={**LLAMA, "architectures": ["NemotronForCausalLM"], "model_type": "nemotron"},
    ),
    Fires(
        "format-cute-dsl-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.format=fp8",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={use_cute_dsl_bf16_gemm: true}",
        ),
        "engine.llm_args.use_cute_dsl_bf16_gemm",
        "use_cute_dsl_bf16_gemm uses kernels of SM100 and SM103, and h100 is SM90",
        hint="Remove use_cute_dsl_bf16_gemm, or choose B200, B300, GB200 or GB300",
    ),
    Fires(
        "format-cute-dsl-on-gpu",
        (
            "layout.gpu=RTX5090",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={use_cute_dsl_blockscaling_mm: true}",
        ),
        "engine.llm_args.use_cute_dsl_blockscaling_mm",
        "use_cute_dsl_blockscaling_mm uses kernels of SM100 and SM103, and rtx5090 is SM120",
        "warning",
        hint="Remove use_cute_dsl_blockscaling_mm, or choose B200, B300, GB200 or GB300",
    ),
    Fires(
        "format-cute-dsl-on-gpu",
        (
            "layout.gpu=H100",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={sparse_attention_config: {algorithm: dsa, use_cute_dsl_topk: true}}",
        ),
        "engine.llm_args.sparse_attention_config.use_cute_dsl_topk",
        "use_cute_dsl_topk uses kernels of SM100 and SM103, and h100 is SM90",
        hint="Remove use_cute_dsl_topk, or choose B200, B300, GB200 or GB300",
    ),
    Fires(
        "format-indexer-fp4",
        (
            "layout.gpu=RTX5090",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={sparse_attention_config: {algorithm: dsa, indexer_k_dtype: fp4}}",
        ),
        "engine.llm_args.sparse_attention_config.indexer_k_dtype",
        "the fp4 indexer has kernels for SM100 and SM103 only, and rtx5090 is SM120",
        hint="Write indexer_k_dtype: fp8",
    ),
    Fires(
        "format-indexer-fp4",
        (
            "layout.gpu=B200",
            "engine.tensorrt_llm='1.3.0rc20'",
            (
                "engine.llm_args={sparse_attention_config: {algorithm: dsa, indexer_k_dtype: fp4, "
                "index_head_dim: 64}}"
            ),
        ),
        "engine.llm_args.sparse_attention_config.indexer_k_dtype",
        "the fp4 indexer needs index_head_dim 128, and this one is 64",
        hint="Write indexer_k_dtype: fp8",
    ),
)
SILENT = (
    Silent(
        "format-source-unknown",
        ("quantize={method: prequantized}", "quantize.format=null"),
        {**LLAMA, "quantization_config": {"quant_algo": "W8A8_SQ_PER_CHANNEL"}},
    ),
    Silent(
        "format-source-unknown",
        ("quantize={method: prequantized}", "quantize.format=null"),
        {**LLAMA, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    ),
    Silent("format-unlisted-model", (), T5),  # model-not-a-language-model says it
    Silent(
        "format-cute-dsl-on-gpu",  # 1.2.1 does not know the key, llm-args-unknown-key says it
        ("layout.gpu=H100", "engine.llm_args={use_cute_dsl_bf16_gemm: true}"),
    ),
    Silent(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H100",
        ),
        config=quantized(LLAMA, quant_method="awq", bits=4),
    ),
    Silent(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Silent(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=H200",
        ),
        config=GPT_OSS,
    ),
    Silent(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=RTX5090",
        ),
        config=modelopt(LLAMA, "NVFP4"),
    ),
    Silent(
        "format-source-on-gpu",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        config=quantized(LLAMA, quant_method="somebody-elses"),
    ),
    Silent("format-fp4-engine-on-sm120", ("layout.gpu=RTX5090",)),
    Silent(
        "format-fp4-engine-on-sm120",
        (
            "layout.gpu=RTX5090",
            "engine.backend=tensorrt",
            "quantize.format=fp8",
        ),
    ),
    Silent(
        "format-fp4-engine-on-sm120",
        (
            "layout.gpu=B200",
            "engine.backend=tensorrt",
        ),
    ),
    Silent(
        "format-int8-slow",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
            "layout.gpu=B200",
        ),
        config=modelopt(LLAMA, "W8A8_SQ_PER_CHANNEL"),
    ),
    Silent("format-int8-slow", ("layout.gpu=B300",)),
    Silent("format-known-bad-model", ("layout.gpu=B200",), config=GEMMA),
    Silent(
        "format-known-bad-model",
        (
            "layout.gpu=RTX5090",
            "quantize.format=fp8",
        ),
        config=GEMMA,
    ),
    Silent("format-known-bad-model", ("layout.gpu=RTX5090",)),
    Silent("format-unlisted-model", ()),
    Silent("format-unlisted-model", ("quantize.format=fp8",), config=GEMMA),
    Silent("format-unlisted-model", ("layout.gpu=RTX5090",), config=GEMMA),
    Silent(
        "format-unlisted-model",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
        config=quantized(DEEPSEEK, **FP8_BLOCK),
    ),
    Silent(
        "format-unlisted-model",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
        config=GPT_OSS,
    ),
    Silent(
        "format-unlisted-model",
        (
            "quantize={method: none}",
            "quantize.format=null",
        ),
        config=PHI,
    ),
    Silent(
        "format-cute-dsl-on-gpu",
        (
            "layout.gpu=B300",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={use_cute_dsl_bf16_gemm: true}",
        ),
    ),
    Silent(
        "format-cute-dsl-on-gpu",
        (
            "layout.gpu=H100",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={use_cute_dsl_bf16_gemm: false}",
        ),
    ),
    Silent(
        "format-indexer-fp4",
        (
            "layout.gpu=B200",
            "engine.tensorrt_llm='1.3.0rc20'",
            (
                "engine.llm_args={sparse_attention_config: {algorithm: dsa, indexer_k_dtype: fp4, "
                "index_head_dim: 128}}"
            ),
        ),
    ),
    Silent(
        "format-indexer-fp4",
        (
            "layout.gpu=H100",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={sparse_attention_config: {algorithm: dsa, indexer_k_dtype: fp8}}",
        ),
    ),
)
