"""add_rmsnorm_quant_fp8 in float32 torch: what the kernel is tested against, and the op on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from bwdeploy_kernels.rounding import quantize_e4m3, token_scales


def add_rmsnorm_quant_fp8(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    eps: float,
    *,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Residual add, RMSNorm and E4M3 quantization of [rows, hidden].

    Returns:
        out float8_e4m3fn [rows, hidden]; residual_out [rows, hidden]; scale_out float32 [rows], or [0] with a
        given scale; normed [rows, hidden], or [0, hidden] unless asked for.
    """
    residual_out = x + residual
    normed = _rmsnorm(residual_out, weight, eps, eager_rounding=eager_rounding)
    scale_out = x.new_empty(0, dtype=torch.float32) if scale is not None else token_scales(normed)
    out = quantize_e4m3(normed, scale_out.unsqueeze(-1) if scale is None else scale)
    return out, residual_out, scale_out, normed if return_normed else normed[:0].clone()


def add_rmsnorm_quant_fp8_(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    eps: float,
    *,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the new residual in the place of the old: out, scale_out, normed."""
    out, residual_out, scale_out, normed = add_rmsnorm_quant_fp8(
        x, residual, weight, scale, eps, eager_rounding=eager_rounding, return_normed=return_normed
    )
    residual.copy_(residual_out)
    return out, scale_out, normed


def add_rmsnorm_quant_fp8_meta(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    eps: float,
    *,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and types of `add_rmsnorm_quant_fp8`."""
    out, scale_out, normed = add_rmsnorm_quant_fp8__meta(
        x,
        residual,
        weight,
        scale,
        eps,
        eager_rounding=eager_rounding,
        return_normed=return_normed,
        pdl=pdl,
    )
    return out, x.new_empty(x.shape), scale_out, normed


def add_rmsnorm_quant_fp8__meta(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    eps: float,
    *,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and types of `add_rmsnorm_quant_fp8_`."""
    rows, hidden = x.shape
    return (
        x.new_empty((rows, hidden), dtype=torch.float8_e4m3fn),
        x.new_empty((rows if scale is None else 0,), dtype=torch.float32),
        x.new_empty((rows if return_normed else 0, hidden)),
    )


def _rmsnorm(values: Tensor, weight: Tensor, eps: float, *, eager_rounding: bool) -> Tensor:
    """RMSNorm of each row, rounded once at the end, or before the weight too as Hugging Face models do."""
    wide = values.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if eager_rounding:
        return weight * scaled.to(values.dtype)
    return (scaled * weight.float()).to(values.dtype)
