"""The forwards that take the place of TensorRT-LLM's RMSNorm and GatedMLP activation.

They keep upstream's interface: a norm returns what the Linear behind it takes without rounding again, a
tensor of float8_e4m3fn or an Fp4QuantizedTensor (packed E2M1 uint8 [M, H/2]; E4M3 block scales as uint8 in
128x4 tiles, flat), and the residual, which is updated in place as flashinfer_fused_add_rmsnorm does
upstream. Where there is nothing to add, or LoRA is active, upstream's own forward runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from types import EllipsisType

    from torch import Tensor

_ROWS = 2
"""Dimensions of the activations here: [tokens, width]."""


class Fp8Norm:
    """add + RMSNorm + E4M3 with the static scale of the Linear that reads the norm."""

    def __init__(self, norm: Any, reader: Any) -> None:  # noqa: ANN401 - upstream's modules
        self._norm, self._reader, self._plain = norm, reader, norm.forward
        self._op: Any = torch.ops.bwdeploy.add_rmsnorm_quant_fp8_.default

    def __call__(self, hidden_states: Tensor, residual: Tensor | EllipsisType | None = ...) -> Any:  # noqa: ANN401
        """As RMSNorm.forward: (norm in E4M3 [M, H], updated residual)."""
        if not isinstance(residual, torch.Tensor) or hidden_states.dim() != _ROWS:
            return self._plain(hidden_states, residual)
        scale = self._reader.input_scale.view(1)
        codes, *_ = self._op(
            hidden_states, residual, self._norm.weight, scale, float(self._norm.variance_epsilon)
        )
        return codes, residual


class Nvfp4Norm:
    """add + RMSNorm + NVFP4 with the static scale of the Linear that reads the norm."""

    def __init__(self, norm: Any, reader: Any, fp4: Any) -> None:  # noqa: ANN401 - upstream's modules and class
        self._norm, self._plain, self._fp4 = norm, norm.forward, fp4
        self._global_scale = global_scale(reader)
        self._op: Any = torch.ops.bwdeploy.add_rmsnorm_quant_nvfp4_.default

    def __call__(self, hidden_states: Tensor, residual: Tensor | EllipsisType | None = ...) -> Any:  # noqa: ANN401
        """As RMSNorm.forward: (norm as Fp4QuantizedTensor, updated residual)."""
        if not isinstance(residual, torch.Tensor) or hidden_states.dim() != _ROWS:
            return self._plain(hidden_states, residual)
        codes, scales, *_ = self._op(
            hidden_states,
            residual,
            self._norm.weight,
            self._global_scale,
            float(self._norm.variance_epsilon),
            swizzled=True,
        )
        return self._fp4(codes, flat_scales(scales)), residual


class Nvfp4Activation:
    """SwiGLU + NVFP4 with the static scale of down_proj."""

    def __init__(self, mlp: Any, fp4: Any) -> None:  # noqa: ANN401 - upstream's module and class
        self._plain, self._fp4 = mlp._apply_activation, fp4  # noqa: SLF001 - the method that is replaced
        self._global_scale = global_scale(mlp.down_proj)
        self._op: Any = torch.ops.bwdeploy.silu_mul_quant_nvfp4.default

    def __call__(self, x: Tensor, *, has_lora: bool = False) -> Any:  # noqa: ANN401
        """As GatedMLP._apply_activation: gate and up in the halves of x [M, 2I] → Fp4QuantizedTensor."""
        if has_lora or x.dim() != _ROWS:
            return self._plain(x, has_lora=has_lora)
        gate, up = x.chunk(2, dim=-1)
        codes, scales = self._op(gate, up, self._global_scale, swizzled=True)
        return self._fp4(codes, flat_scales(scales))


def global_scale(reader: Any) -> Tensor:  # noqa: ANN401 - upstream's Linear
    """The scale amax / (6 * 448) as float32 [1]; upstream keeps its reciprocal (NVFP4LinearMethod)."""
    scale: Tensor = 1.0 / reader.input_scale.detach().to(torch.float32).reshape(1)
    return scale


def flat_scales(scales: Tensor) -> Tensor:
    """Swizzled scales as upstream's fp4_quantize returns them: uint8, one dimension."""
    return scales.view(torch.uint8).reshape(-1)
