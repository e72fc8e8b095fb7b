"""add_rmsnorm_quant_nvfp4 in float32 torch: what the kernel is tested against, and the op on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from bwdeploy_kernels.rounding import SCALE_BLOCK, quantize_nvfp4, swizzle, swizzled_shape


def add_rmsnorm_quant_nvfp4(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    global_scale: Tensor,
    eps: float,
    *,
    swizzled: bool = True,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Residual add, RMSNorm and NVFP4 quantization of [rows, hidden].

    Returns:
        out uint8 [rows, hidden / 2]; scales float8_e4m3fn, linear [rows, hidden / 16] or swizzled and padded
        to tiles of 128 x 4; residual_out [rows, hidden]; normed likewise, or [0, hidden] unless asked for.
    """
    residual_out = x + residual
    normed = _rmsnorm(residual_out, weight, eps, eager_rounding=eager_rounding)
    out, scales = quantize_nvfp4(normed, global_scale)
    return (
        out,
        swizzle(scales) if swizzled else scales,
        residual_out,
        normed if return_normed else normed[:0].clone(),
    )


def add_rmsnorm_quant_nvfp4_(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    global_scale: Tensor,
    eps: float,
    *,
    swizzled: bool = True,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the new residual in the place of the old: out, scales, normed."""
    out, scales, residual_out, normed = add_rmsnorm_quant_nvfp4(
        x,
        residual,
        weight,
        global_scale,
        eps,
        swizzled=swizzled,
        eager_rounding=eager_rounding,
        return_normed=return_normed,
    )
    residual.copy_(residual_out)
    return out, scales, normed


def add_rmsnorm_quant_nvfp4_meta(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    global_scale: Tensor,
    eps: float,
    *,
    swizzled: bool = True,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and types of `add_rmsnorm_quant_nvfp4`."""
    out, scales, normed = add_rmsnorm_quant_nvfp4__meta(
        x,
        residual,
        weight,
        global_scale,
        eps,
        swizzled=swizzled,
        eager_rounding=eager_rounding,
        return_normed=return_normed,
        pdl=pdl,
    )
    return out, scales, x.new_empty(x.shape), normed


def add_rmsnorm_quant_nvfp4__meta(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    global_scale: Tensor,
    eps: float,
    *,
    swizzled: bool = True,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and types of `add_rmsnorm_quant_nvfp4_`."""
    rows, hidden = x.shape
    scales = swizzled_shape(rows, hidden) if swizzled else (rows, hidden // SCALE_BLOCK)
    return (
        x.new_empty((rows, hidden // 2), dtype=torch.uint8),
        x.new_empty(scales, dtype=torch.float8_e4m3fn),
        x.new_empty((rows if return_normed else 0, hidden)),
    )


def _rmsnorm(values: Tensor, weight: Tensor, eps: float, *, eager_rounding: bool) -> Tensor:
    """RMSNorm of each row, rounded once at the end, or before the weight too as Hugging Face models do."""
    wide = values.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if eager_rounding:
        return weight * scaled.to(values.dtype)
    return (scaled * weight.float()).to(values.dtype)
