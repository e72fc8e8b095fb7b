"""Kernels that TensorRT-LLM would not call."""

from __future__ import annotations

from bwdeploy_kernels.tensorrt_llm.limits import FUSED_UPSTREAM
from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

NORM = "kernels=[add_rmsnorm_quant_nvfp4]"
ENGINE = "engine.backend=tensorrt"
CLASS = "engine.build_flags={model_cls_file: m.py, model_cls_name: M}"
WIDE = SMALL_LLAMA | {"hidden_size": 8192, "num_attention_heads": 64}
PAIR = "layout={gpu: B200, gpus_per_node: 2, tp: 2}"

FIRES = (
    Fires(
        "kernels-trtllm-version",
        (NORM, "engine.tensorrt_llm='1.2.0'"),
        "kernels",
        "the kernels know the modules of TensorRT-LLM 1.2.1, not of 1.2.0",
        hint="Set engine.tensorrt_llm: 1.2.1, or remove the kernels",
    ),
    Fires(
        "kernels-trtllm-fused",
        ("kernels=[silu_mul_quant_fp8]", "quantize.format=fp8"),
        "kernels[0]",
        f"TensorRT-LLM has no place for silu_mul_quant_fp8: {FUSED_UPSTREAM['silu_mul_quant_fp8']}",
    ),
    Fires(
        "kernels-trtllm-model",
        (NORM,),
        "kernels",
        "no decoder layer of a mistral model is known to call kernels in TensorRT-LLM",
        config=SMALL_LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
    ),
    Fires(
        "kernels-trtllm-all-reduce",
        (NORM, PAIR),
        "kernels[0]",
        "with tp 2 TensorRT-LLM fuses this norm into its all-reduce",
        config=WIDE,
    ),
    Fires(
        "kernels-trtllm-ranks",
        (NORM, "layout={gpu: B200, gpus_per_node: 2, pp: 2}"),
        "layout.pp",
        "a norm at the border of two pipeline stages would send rounded values",
    ),
    Fires(
        "kernels-trtllm-ranks",
        (NORM, "layout={gpu: B200, nodes: 2, tp: 2}"),
        "layout.nodes",
        "workers on other machines would not import the kernels",
    ),
    Fires(
        "kernels-trtllm-arguments",
        (NORM, "engine.llm_args={enable_lora: true}"),
        "engine.llm_args.enable_lora",
        "the kernels do not run with this argument: got True, wanted False: LoRA reads the norms unrounded",
    ),
    Fires(
        "kernels-trtllm-format",
        (NORM, "quantize.format=nvfp4_awq_lite"),
        "kernels",
        "with format nvfp4_awq_lite TensorRT-LLM's linear layers round their own input",
    ),
    Fires(
        "kernels-engine-model-class",
        (NORM, ENGINE),
        "kernels",
        "an engine calls plugins where its model class does, and upstream's classes call none of ours",
    ),
    Fires(
        "kernels-engine-workers",
        (NORM, ENGINE, CLASS, "layout={gpu: B200, gpus_per_node: 2, tp: 2}"),
        "kernels",
        "trtllm-build's worker processes cannot import a model class of your own",
        hint="Set engine.build_flags.workers: 1",
    ),
    Fires(
        "kernels-engine-plugin",
        ("kernels=[allreduce_add_rmsnorm_quant]", ENGINE, "layout={gpu: B200, gpus_per_node: 2, tp: 2}"),
        "kernels[0]",
        "there is no TensorRT plugin of allreduce_add_rmsnorm_quant",
    ),
)
SILENT = (
    Silent("kernels-trtllm-version", (NORM,)),
    Silent("kernels-trtllm-version", (NORM, "engine.tensorrt_llm='1.2.0'", "serve.runtime=reference")),
    Silent("kernels-trtllm-fused", ("kernels=[silu_mul_quant_nvfp4]",)),
    Silent("kernels-trtllm-model", (NORM,)),
    Silent("kernels-trtllm-all-reduce", (NORM, PAIR)),
    Silent(
        "kernels-trtllm-all-reduce",
        (NORM, "layout={gpu: B200, gpus_per_node: 2, tp: 2, attention_dp: true}"),
        config=WIDE,
    ),
    Silent("kernels-trtllm-ranks", (NORM, PAIR)),
    Silent("kernels-trtllm-arguments", (NORM, "engine.llm_args={enable_lora: false}")),
    Silent("kernels-trtllm-format", (NORM,)),
    Silent("kernels-engine-model-class", (NORM, ENGINE, CLASS)),
    Silent("kernels-engine-workers", (NORM, ENGINE, CLASS)),
    Silent("kernels-engine-plugin", (NORM, ENGINE)),
)
