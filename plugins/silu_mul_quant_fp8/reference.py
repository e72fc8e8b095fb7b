"""silu_mul_quant_fp8 in float32 torch: what the kernel is tested against, and the op on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bwdeploy_kernels.rounding import quantize_e4m3, token_scales


def silu_mul_quant_fp8(
    gate: Tensor,
    up: Tensor,
    scale: Tensor | None,
    *,
    rows_per_expert: Tensor | None = None,
    eager_rounding: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor]:
    """SwiGLU and E4M3 quantization of [rows, width]; rows that an expert does not have count as zeros.

    Returns:
        out float8_e4m3fn [rows, width]; scale_out float32 [rows], or [0] with a given scale.
    """
    product = _silu_mul(gate, up, eager_rounding=eager_rounding)
    if rows_per_expert is not None:
        product = product.masked_fill(_missing(rows_per_expert, gate.shape[0]), 0)
    if scale is None:
        scale_out = token_scales(product)
        return quantize_e4m3(product, scale_out.unsqueeze(-1)), scale_out
    if rows_per_expert is not None:
        scale = scale.repeat_interleave(gate.shape[0] // scale.shape[0]).unsqueeze(-1)
    return quantize_e4m3(product, scale), gate.new_empty(0, dtype=torch.float32)


def silu_mul_quant_fp8_meta(
    gate: Tensor,
    up: Tensor,
    scale: Tensor | None,
    *,
    rows_per_expert: Tensor | None = None,
    eager_rounding: bool = False,
    pdl: bool = True,
) -> tuple[Tensor, Tensor]:
    """Shapes and types of `silu_mul_quant_fp8`."""
    rows, width = gate.shape
    return (
        gate.new_empty((rows, width), dtype=torch.float8_e4m3fn),
        gate.new_empty((rows if scale is None else 0,), dtype=torch.float32),
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
