"""Walk a model of TensorRT-LLM's PyTorch backend and change what an op of the pack can take over.

A place is changed only where the Linear behind it takes rounded input: static FP8 (per tensor) or NVFP4.
Norms that TensorRT-LLM fuses into an all-reduce are never called as modules; they are left, and the reason
says so. The modules stay where they are, with names and weights: only their forward is another, because
layers of upstream hold the same norm under two names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from bwdeploy_kernels.eligibility import ACTIVATIONS, MULTIPLE_OF, refuse_idle
from bwdeploy_kernels.errors import ReplacementError
from bwdeploy_kernels.tensorrt_llm.limits import LAYERS
from bwdeploy_kernels.tensorrt_llm.swapped_modules import Fp8Norm, Nvfp4Activation, Nvfp4Norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy_kernels.pack import Pack
    from bwdeploy_kernels.tensorrt_llm.upstream import Upstream

_KNOWN: Final = {layer.name: layer for layer in LAYERS.values()}
_BLOCK: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Swapped:
    """What calls the ops now, and what does not."""

    modules: dict[str, int]
    """Op → places that call it, each once in a forward."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Path of a module that no op took over → why."""


class _KeptError(Exception):
    """Why a place keeps upstream's forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Norm:
    """A norm, the Linear that reads it, and whether upstream fuses it into an all-reduce."""

    path: str
    norm: Any
    reader: Any
    in_all_reduce: bool = False


def swap_modules(model: Any, pack: Pack, upstream: Upstream) -> Swapped:  # noqa: ANN401 - upstream's model
    """Let the decoder layers of `model` call the ops of `pack`; its weights must be loaded.

    Raises:
        ReplacementError: the model has no layer that is known, or no place for one of the ops.
    """
    layers = [(path, layer) for path, layer in model.named_modules() if _kind(layer) in _KNOWN]
    if not layers:
        raise ReplacementError(
            f"model: got {type(model).__name__}, wanted one with layers of "
            f"{', '.join(name.rpartition('.')[2] for name in _KNOWN)}. "
            "Take the kernels out of the recipe."
        )
    swap = _Swap(pack, upstream)
    for path, layer in layers:
        for site in _norms(path, layer):
            swap.norm(site)
        swap.mlp(f"{path}.mlp", layer.mlp)
    refuse_idle(swap.swapped.modules, swap.swapped.reasons)
    return swap.swapped


class _Swap:
    """One walk over one model."""

    def __init__(self, pack: Pack, upstream: Upstream) -> None:
        self._device, self._upstream = pack.device, upstream
        self.swapped = Swapped(modules=dict.fromkeys(pack.ops, 0))

    def norm(self, site: _Norm) -> None:
        """Let one norm round for its reader, or note why not."""
        try:
            precision = self._check_norm(site)
            self._count(f"add_rmsnorm_quant_{precision}")
        except _KeptError as reason:
            self.swapped.reasons[site.path] = str(reason)
            return
        if precision == "fp8":
            site.norm.forward = Fp8Norm(site.norm, site.reader)
        else:
            site.norm.forward = Nvfp4Norm(site.norm, site.reader, self._upstream.fp4_quantized_tensor)

    def mlp(self, path: str, mlp: Any) -> None:  # noqa: ANN401
        """Let one GatedMLP round for its down_proj, or note why not."""
        try:
            self._check_mlp(mlp)
            self._count("silu_mul_quant_nvfp4")
        except _KeptError as reason:
            self.swapped.reasons[path] = str(reason)
        else:
            mlp._apply_activation = Nvfp4Activation(mlp, self._upstream.fp4_quantized_tensor)  # noqa: SLF001

    def _count(self, op: str) -> None:
        if op not in self.swapped.modules:
            raise _KeptError(f"{op} could do it, but is not in the pack or was not asked for")
        self.swapped.modules[op] += 1

    def _check_norm(self, site: _Norm) -> str:
        """What the norm has to round to: `fp8` or `nvfp4`."""
        norm = site.norm
        if type(norm) is not self._upstream.rms_norm:
            raise _KeptError(f"its norm is a {type(norm).__name__}")
        if norm.use_gemma:
            raise _KeptError("a Gemma norm adds one to its weight")
        if getattr(norm, "is_nvfp4", False):
            raise _KeptError("upstream rounds in its own norm (torch.ops.trtllm.fused_add_rms_norm_quant)")
        if "forward" in vars(norm):
            raise _KeptError("its forward was replaced before")
        if norm.weight.dtype not in ACTIVATIONS[self._device]:
            raise _KeptError(f"its weight is {norm.weight.dtype}")
        precision = self._check_reader(site.reader, norm.weight.shape[0])
        if site.in_all_reduce:
            raise _KeptError(
                "upstream fuses it into its all-reduce "
                f"(AllReduceFusionOp.RESIDUAL_RMS_NORM_QUANT_{precision.upper()})"
            )
        return precision

    def _check_mlp(self, mlp: Any) -> None:  # noqa: ANN401
        if type(mlp) is not self._upstream.gated_mlp:
            raise _KeptError(f"it is a {type(mlp).__name__}, whose experts round for themselves")
        if mlp.activation is not torch.nn.functional.silu:
            raise _KeptError("its activation is not SiLU")
        if getattr(mlp, "swiglu_limit", None) is not None:
            raise _KeptError("its SwiGLU has a limit")
        if "_apply_activation" in vars(mlp):
            raise _KeptError("its activation was replaced before")
        if self._check_reader(mlp.down_proj, mlp.down_proj.in_features) == "fp8":
            raise _KeptError("upstream rounds in its own SwiGLU kernel (torch.ops.trtllm.silu_and_mul)")

    def _check_reader(self, linear: Any, width: int) -> str:  # noqa: ANN401
        """What the Linear takes: `fp8` or `nvfp4`."""
        if type(linear) is not self._upstream.linear:
            raise _KeptError(f"a {type(linear).__name__} reads it")
        precision = "fp8" if linear.has_fp8_qdq else "nvfp4" if linear.has_nvfp4 else None
        if precision is None:
            raise _KeptError("what reads it is neither FP8 per tensor nor NVFP4")
        if linear.force_dynamic_quantization or getattr(linear, "input_scale", None) is None:
            raise _KeptError("what reads it finds its scale when it runs")
        if getattr(linear, "pre_quant_scale", None) is not None:
            raise _KeptError("what reads it scales its input first (AWQ)")
        if precision == "nvfp4" and linear.scaling_vector_size != _BLOCK:
            raise _KeptError(f"its blocks are of {linear.scaling_vector_size}, not {_BLOCK}")
        if width != linear.in_features or width % MULTIPLE_OF[precision]:
            raise _KeptError(f"its width {width} is no multiple of {MULTIPLE_OF[precision]}")
        return precision


def _norms(path: str, layer: Any) -> Iterator[_Norm]:  # noqa: ANN401
    """The norms that a layer calls after an addition."""
    yield _Norm(
        path=f"{path}.post_attention_layernorm",
        norm=layer.post_attention_layernorm,
        reader=getattr(layer.mlp, "gate_up_proj", layer.mlp),
        in_all_reduce=bool(getattr(layer, "PRE_MLP_FUSION", False)),
    )
    if not _KNOWN[_kind(layer)].calls_next_norm:
        if layer.layer_idx != 0:  # nothing is added before the first norm
            yield _Norm(
                path=f"{path}.input_layernorm", norm=layer.input_layernorm, reader=layer.self_attn.qkv_proj
            )
    elif layer.next_attn is not None:  # behind the last layer stands the norm of the whole model
        yield _Norm(
            path=f"{path}.next_layer_layernorm",
            norm=layer.next_layer_layernorm,
            reader=layer.next_attn.qkv_proj,
            in_all_reduce=bool(layer.POST_MLP_FUSION),
        )


def _kind(module: Any) -> str:  # noqa: ANN401
    return f"{type(module).__module__}.{type(module).__qualname__}"
