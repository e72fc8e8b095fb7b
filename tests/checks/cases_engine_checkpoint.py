"""Rows of the rules on the checkpoint that an engine is built from."""

from __future__ import annotations

from typing import Any

from tests.checks.cases import Fires, Silent

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "intermediate_size": 2784,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
MIXTRAL = {
    **LLAMA,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN3 = {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
YARN = {**LLAMA, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
YARN_5 = {**LLAMA, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}
LLAMA3 = {**LLAMA, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}
QUANTIZED = {**LLAMA, "quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}
ENGINE = "engine.backend=tensorrt"
CONVERTED = "engine.converter=tensorrt_llm"
KNOWN = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM"
OTHER_WAYS = "Set engine.converter: tensorrt_llm, or engine.backend: pytorch"
YARN_MESSAGE = "its positions are scaled by yarn, which an engine of this architecture does not compute"
TWO = "layout.gpus_per_node=2"

FIRES: list[Fires] = [
    Fires(
        "engine-export-architecture",
        (ENGINE,),
        "model.source",
        f"ModelOpt's export for engines is not known to be right for MixtralForCausalLM, only for {KNOWN}",
        hint=OTHER_WAYS,
        config=MIXTRAL,
    ),
    Fires(
        "engine-export-format",
        (ENGINE, "quantize.format=nvfp4_awq_lite"),
        "quantize.format",
        "nvfp4_awq_lite cannot go into an engine: trtllm-build has no layers for NVFP4_AWQ",
        hint="Choose one of: nvfp4, nvfp4_mlp_only, nvfp4_omlp_only, nvfp4_experts_only, fp8,"
        " fp8_per_channel_per_token; or set engine.backend: pytorch",
        config=LLAMA,
    ),
    Fires(
        "engine-export-format",
        (ENGINE, "quantize.overrides=[{modules: '*mlp*', format: w4a8_mxfp4_fp8}]"),
        "quantize.overrides[0].format",
        "w4a8_mxfp4_fp8 cannot go into an engine: trtllm-build's loader does not prepare W4A8_MXFP4_FP8",
        config=LLAMA,
    ),
    Fires(
        "engine-export-mixture",
        (
            ENGINE,
            "quantize.format=fp8_per_channel_per_token",
            "quantize.overrides=[{modules: '*mlp*', format: nvfp4}]",
        ),
        "quantize.overrides",
        "FP8_PER_CHANNEL_PER_TOKEN replaces whole blocks of an engine and cannot be mixed with NVFP4",
        config=LLAMA,
    ),
    Fires(
        "engine-export-lost-part",
        (ENGINE, "quantize.format=fp8_per_channel_per_token"),
        "quantize.format",
        "an engine of Qwen3ForCausalLM in FP8_PER_CHANNEL_PER_TOKEN leaves out the norms of queries and keys"
        " without an error",
        hint="Use fp8, or set engine.backend: pytorch",
        config=QWEN3,
    ),
    Fires(
        "engine-export-prequantized",
        (ENGINE, "quantize.method=prequantized", "quantize.format=null"),
        "quantize.method",
        "ModelOpt cuts models into ranks only while it quantizes them, not afterwards",
        config=QUANTIZED,
    ),
    Fires(
        "engine-export-sizes",
        (ENGINE, "layout.pp=4", "layout.gpus_per_node=4"),
        "layout.pp",
        "6 layers do not divide by pp 4; ModelOpt exports equal stages only",
        hint="Choose one of: 1, 2, 3, 6",
        config=LLAMA,
    ),
    Fires(
        "engine-export-sizes",
        (ENGINE, "layout.tp=4", "layout.gpus_per_node=4"),
        "layout.tp",
        "feed-forward width 2784 over tp 4 is not a multiple of the 16 inputs that share a scale",
        hint="Choose one of: 1, 2",
        config=LLAMA,
    ),
    Fires(
        "engine-export-sizes",
        (ENGINE, "quantize.format=fp8", "layout.tp=2", TWO),
        "layout.tp",
        "feed-forward width 2785 does not divide by tp 2",
        config={**LLAMA, "intermediate_size": 2785},
    ),
    Fires("engine-export-positions", (ENGINE,), "model.source", YARN_MESSAGE, config=YARN),
    Fires("engine-export-positions", (ENGINE,), "model.source", YARN_MESSAGE, config=YARN_5),
]

SILENT: list[Silent] = [
    Silent("engine-export-architecture", (ENGINE,), LLAMA),
    Silent("engine-export-architecture", (ENGINE, CONVERTED), MIXTRAL),
    Silent("engine-export-architecture", (), MIXTRAL),
    Silent("engine-export-format", (ENGINE, "quantize.format=nvfp4_mlp_only"), LLAMA),
    Silent("engine-export-format", (ENGINE, CONVERTED, "quantize.format=nvfp4_awq_lite"), LLAMA),
    Silent("engine-export-format", ("quantize.format=nvfp4_awq_lite",), LLAMA),
    Silent(
        "engine-export-mixture",
        (ENGINE, "quantize.format=fp8", "quantize.overrides=[{modules: '*mlp*', format: nvfp4}]"),
        LLAMA,
    ),
    Silent(
        "engine-export-mixture",
        (
            ENGINE,
            "quantize.format=fp8_per_channel_per_token",
            "quantize.overrides=[{modules: '*mlp*', format: none}]",
        ),
        LLAMA,
    ),
    Silent("engine-export-lost-part", (ENGINE, "quantize.format=fp8"), QWEN3),
    Silent("engine-export-lost-part", ("quantize.format=fp8_per_channel_per_token",), QWEN3),
    Silent(
        "engine-export-prequantized",
        (ENGINE, CONVERTED, "quantize.method=prequantized", "quantize.format=null"),
        QUANTIZED,
    ),
    Silent("engine-export-prequantized", (ENGINE, "quantize.method=none", "quantize.format=null"), LLAMA),
    Silent("engine-export-sizes", (ENGINE, "layout.tp=2", "layout.pp=3", "layout.gpus_per_node=6"), LLAMA),
    Silent(
        "engine-export-sizes",
        (ENGINE, "quantize.format=fp8", "layout.tp=4", "layout.gpus_per_node=4"),
        LLAMA,
    ),
    Silent("engine-export-positions", (ENGINE,), LLAMA3),
    Silent("engine-export-positions", (), YARN),
]
