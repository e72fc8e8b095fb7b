"""allreduce_add_rmsnorm_quant in float32 torch: what the kernels are tested against, and the op on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from bwdeploy_kernels.peers import gather
from bwdeploy_kernels.rounding import (
    SCALE_BLOCK,
    quantize_e4m3,
    quantize_nvfp4,
    swizzle,
    swizzled_shape,
    token_scales,
)


def allreduce_add_rmsnorm_quant_fp8(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    eps: float,
    peers: int,
    *,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum of x [rows, hidden] over the ranks, residual add, RMSNorm and E4M3 quantization.

    Returns:
        out float8_e4m3fn [rows, hidden]; residual_out [rows, hidden]; scale_out float32 [rows], or [0] with a
        given scale; normed [rows, hidden], or [0, hidden] unless asked for. The same on all ranks.
    """
    residual_out = sum_of_ranks(gather(peers, x)) + residual
    normed = _rmsnorm(residual_out, weight, eps, eager_rounding=eager_rounding)
    scale_out = x.new_empty(0, dtype=torch.float32) if scale is not None else token_scales(normed)
    out = quantize_e4m3(normed, scale_out.unsqueeze(-1) if scale is None else scale)
    return out, residual_out, scale_out, normed if return_normed else normed[:0].clone()


def allreduce_add_rmsnorm_quant_nvfp4(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    global_scale: Tensor,
    eps: float,
    peers: int,
    *,
    swizzled: bool = True,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum of x [rows, hidden] over the ranks, residual add, RMSNorm and NVFP4 quantization.

    Returns:
        out uint8 [rows, hidden / 2]; scales float8_e4m3fn, linear [rows, hidden / 16], or swizzled and padded
        to tiles of 128 x 4; residual_out [rows, hidden]; normed [rows, hidden], or [0, hidden] unless asked
        for. The same on all ranks.
    """
    residual_out = sum_of_ranks(gather(peers, x)) + residual
    normed = _rmsnorm(residual_out, weight, eps, eager_rounding=eager_rounding)
    out, linear = quantize_nvfp4(normed, global_scale)
    scales = swizzle(linear) if swizzled else linear
    return out, scales, residual_out, normed if return_normed else normed[:0].clone()


def allreduce_add_rmsnorm_quant_fp8_meta(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    eps: float,
    peers: int,
    *,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and types of `allreduce_add_rmsnorm_quant_fp8`."""
    rows, hidden = x.shape
    return (
        x.new_empty((rows, hidden), dtype=torch.float8_e4m3fn),
        x.new_empty((rows, hidden)),
        x.new_empty((rows if scale is None else 0,), dtype=torch.float32),
        x.new_empty((rows if return_normed else 0, hidden)),
    )


def allreduce_add_rmsnorm_quant_nvfp4_meta(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    global_scale: Tensor,
    eps: float,
    peers: int,
    *,
    swizzled: bool = True,
    eager_rounding: bool = False,
    return_normed: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes and types of `allreduce_add_rmsnorm_quant_nvfp4`."""
    rows, hidden = x.shape
    scales = swizzled_shape(rows, hidden) if swizzled else (rows, hidden // SCALE_BLOCK)
    return (
        x.new_empty((rows, hidden // 2), dtype=torch.uint8),
        x.new_empty(scales, dtype=torch.float8_e4m3fn),
        x.new_empty((rows, hidden)),
        x.new_empty((rows if return_normed else 0, hidden)),
    )


def sum_of_ranks(parts: list[Tensor]) -> Tensor:
    """Add up in float32 in the order of the ranks, and round once to their type."""
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total.to(parts[0].dtype)


def _rmsnorm(values: Tensor, weight: Tensor, eps: float, *, eager_rounding: bool) -> Tensor:
    """RMSNorm of each row, rounded once at the end, or before the weight too as Hugging Face models do."""
    wide = values.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if eager_rounding:
        return weight * scaled.to(values.dtype)
    return (scaled * weight.float()).to(values.dtype)
