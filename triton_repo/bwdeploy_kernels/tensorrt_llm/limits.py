"""What the kernels run with in TensorRT-LLM, as data: releases, models, arguments, and what it fuses itself.

Standard library only, so that a recipe can be judged without torch.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS: Final = ("1.2.1",)
"""Releases of TensorRT-LLM whose source was read."""


class KnownLayer(NamedTuple):
    """A decoder layer whose source was read."""

    name: str
    """With its module."""
    calls_next_norm: bool
    """It ends with the norm of the layer behind it; with tp > 1 upstream fuses its norms into all-reduces."""


LAYERS: Final[Mapping[str, KnownLayer]] = MappingProxyType(
    {
        "llama": KnownLayer(
            "tensorrt_llm._torch.models.modeling_llama.LlamaDecoderLayer", calls_next_norm=True
        ),
        "qwen2": KnownLayer(
            "tensorrt_llm._torch.models.modeling_qwen.QwenDecoderLayer", calls_next_norm=False
        ),
        "qwen3": KnownLayer(
            "tensorrt_llm._torch.models.modeling_qwen3.Qwen3DecoderLayer", calls_next_norm=False
        ),
    }
)
"""`model_type` of config.json → its decoder layer in TensorRT-LLM."""

ALL_REDUCE_ABOVE: Final = 4096
"""Hidden size up to which Llama's layers leave their norms out of the all-reduce (modeling_llama.py)."""

FUSED_UPSTREAM: Final[Mapping[str, str]] = MappingProxyType(
    {
        "silu_mul_quant_fp8": "its GatedMLP already runs SwiGLU and the FP8 rounding in one kernel "
        "(torch.ops.trtllm.silu_and_mul with a scale, _torch/modules/swiglu.py)",
        "allreduce_add_rmsnorm_quant": "its layers already fuse all-reduce, add, RMSNorm and rounding "
        "(AllReduceFusionOp.RESIDUAL_RMS_NORM_QUANT_FP8 and _NVFP4, _torch/distributed/ops.py)",
    }
)
"""Ops that take the place of nothing, because TensorRT-LLM has such a kernel of its own."""

REFUSED_ARGUMENTS: Final[Mapping[str, tuple[Any, str]]] = MappingProxyType(
    {
        "backend": ("pytorch", "the modules are those of the PyTorch backend"),
        "pipeline_parallel_size": (1, "a norm between two ranks would send rounded values"),
        "enable_lora": (False, "LoRA reads the norms unrounded"),
        "lora_config": (None, "LoRA reads the norms unrounded"),
        "torch_compile_config": (None, "its passes rewrite the same places"),
        "orchestrator_type": (None, "only the MPI workers are given what imports the pack"),
    }
)
"""LLM argument → the value that the kernels run with, and why no other."""


def refused_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Of the arguments of tensorrt_llm.LLM: name → why the kernels do not run with its value."""
    return {
        name: f"got {arguments[name]!r}, wanted {wanted!r}: {reason}"
        for name, (wanted, reason) in REFUSED_ARGUMENTS.items()
        if name in arguments and arguments[name] not in (None, wanted)
    }
