"""silu_mul_quant_nvfp4 in float32 torch: what the kernel is tested against, and the op on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bwdeploy_kernels.rounding import SCALE_BLOCK, quantize_nvfp4, swizzle, swizzled_shape


def silu_mul_quant_nvfp4(
    gate: Tensor,
    up: Tensor,
    global_scale: Tensor,
    *,
    swizzled: bool = True,
    rows_per_expert: Tensor | None = None,
    eager_rounding: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor]:
    """SwiGLU and NVFP4 quantization of [rows, width]; rows that an expert does not have count as zeros.

    Returns:
        out uint8 [rows, width / 2]; scales float8_e4m3fn, linear [rows, width / 16] or swizzled, then padded
        with zeros to whole tiles of 128 x 4.
    """
    product = _silu_mul(gate, up, eager_rounding=eager_rounding)
    if rows_per_expert is not None:
        product = product.masked_fill(_missing(rows_per_expert, gate.shape[0]), 0)
        global_scale = global_scale.repeat_interleave(gate.shape[0] // global_scale.shape[0]).unsqueeze(-1)
    out, scales = quantize_nvfp4(product, global_scale)
    return out, swizzle(scales) if swizzled else scales


def silu_mul_quant_nvfp4_meta(
    gate: Tensor,
    up: Tensor,
    global_scale: Tensor,
    *,
    swizzled: bool = True,
    rows_per_expert: Tensor | None = None,
    eager_rounding: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor]:
    """Shapes and types of `silu_mul_quant_nvfp4`."""
    rows, width = gate.shape
    shape = swizzled_shape(rows, width) if swizzled else (rows, width // SCALE_BLOCK)
    return (
        gate.new_empty((rows, width // 2), dtype=torch.uint8),
        gate.new_empty(shape, dtype=torch.float8_e4m3fn),
    )


def _silu_mul(gate: Tensor, up: Tensor, *, eager_rounding: bool) -> Tensor:
    """silu(gate) * up, rounded once at the end, or after silu too as unfused PyTorch does."""
    if eager_rounding:
        return functional.silu(gate) * up
    return (functional.silu(gate.float()) * up.float()).to(gate.dtype)


def _missing(rows_per_expert: Tensor, rows: int) -> Tensor:
    """Which of the rows ([rows, 1]) their expert does not have."""
    capacity = rows // rows_per_expert.shape[0]
    place = torch.arange(capacity, device=rows_per_expert.device)
    return (place >= rows_per_expert.unsqueeze(-1)).reshape(rows, 1)
