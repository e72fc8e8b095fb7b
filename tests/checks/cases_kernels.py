"""Kernels that a model would never call."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

REFERENCE = "serve.runtime=reference"
NVFP4_NORM, FP8_NORM = "add_rmsnorm_quant_nvfp4", "add_rmsnorm_quant_fp8"
ALLREDUCE = "allreduce_add_rmsnorm_quant"
GEMMA = SMALL_LLAMA | {"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}


def kernels(*names: str) -> str:
    return f"kernels=[{', '.join(names)}]"


FIRES = (
    Fires(
        "kernels-unknown",
        (kernels("add_rmsnorm_nvfp4"),),
        "kernels[0]",
        "there is no kernel add_rmsnorm_nvfp4",
        hint="Did you mean add_rmsnorm_quant_nvfp4",
    ),
    Fires(
        "kernels-unknown",
        (kernels(NVFP4_NORM, "flash"),),
        "kernels[1]",
        "there is no kernel flash",
        hint="The ops are add_rmsnorm_quant_fp8, add_rmsnorm_quant_nvfp4, allreduce_add_rmsnorm_quant, "
        "silu_mul_quant_fp8, silu_mul_quant_nvfp4",
    ),
    Fires("kernels-twice", (kernels(NVFP4_NORM, NVFP4_NORM),), "kernels[1]", f"{NVFP4_NORM} is named twice"),
    Fires(
        "kernels-format",
        (kernels(FP8_NORM),),
        "kernels[0]",
        f"{FP8_NORM} writes FP8, but with format nvfp4 the inputs of linear layers are NVFP4",
    ),
    Fires(
        "kernels-format",
        (kernels(NVFP4_NORM), "quantize.format=nvfp4_weight_only"),
        "kernels[0]",
        f"{NVFP4_NORM} writes NVFP4, but with format nvfp4_weight_only the inputs of linear layers are not "
        "quantized",
    ),
    Fires(
        "kernels-format",
        (kernels(FP8_NORM), "quantize={method: none}"),
        "kernels[0]",
        f"{FP8_NORM} writes FP8, but with quantize.method none the inputs of linear layers are not quantized",
    ),
    Fires(
        "kernels-gpu",
        (kernels(NVFP4_NORM), "layout.gpu=DGX-Spark"),
        "kernels[0]",
        f"{NVFP4_NORM} is compiled for sm_90a, sm_100a, sm_103a, sm_120a; DGX Spark (GB10) is sm_121a",
    ),
    Fires(
        "kernels-gpus",
        (kernels(ALLREDUCE), REFERENCE),
        "kernels[0]",
        f"{ALLREDUCE} works over 2, 4, 8 GPUs, and the runtime reference runs on one",
        hint="Remove it; TensorRT-LLM fuses this all-reduce itself, and the op is there for code of your own",
    ),
    Fires(
        "kernels-gpus",
        (kernels(ALLREDUCE), "layout={gpu: B200, tp: 1}"),
        "kernels[0]",
        f"{ALLREDUCE} works over 2, 4, 8 GPUs, not over tp 1",
        hint="Remove it; TensorRT-LLM fuses this all-reduce itself, and the op is there for code of your own",
    ),
    Fires(
        "kernels-model",
        (kernels(NVFP4_NORM), REFERENCE),
        "kernels[0]",
        f"no layer of a gemma model can call {NVFP4_NORM}: its norm multiplies by 1 + weight in float32",
        config=GEMMA,
    ),
    Fires(
        "kernels-width",
        (kernels("silu_mul_quant_nvfp4"),),
        "kernels[0]",
        "silu_mul_quant_nvfp4 takes rows of a multiple of 16; the intermediate size of a rank is 120",
        config=SMALL_LLAMA | {"intermediate_size": 120},
    ),
)
SILENT = (
    Silent("kernels-unknown", (kernels(NVFP4_NORM),)),
    Silent("kernels-twice", (kernels(NVFP4_NORM, "silu_mul_quant_nvfp4"),)),
    Silent("kernels-format", (kernels(NVFP4_NORM),)),
    Silent(
        "kernels-format",
        (kernels(FP8_NORM, NVFP4_NORM), "quantize.overrides=[{modules: '*.layers.0.*', format: fp8}]"),
    ),
    Silent("kernels-format", (kernels(FP8_NORM), "quantize={method: prequantized, format: null}")),
    Silent("kernels-gpu", (kernels(NVFP4_NORM), "layout.gpu=B200")),
    Silent("kernels-gpus", (kernels(ALLREDUCE), "layout={gpu: B200, tp: 2, gpus_per_node: 2}")),
    Silent("kernels-model", (kernels(NVFP4_NORM), REFERENCE)),
    Silent("kernels-model", (kernels(NVFP4_NORM),), config=GEMMA),
    Silent("kernels-width", (kernels("silu_mul_quant_nvfp4"),)),
)
