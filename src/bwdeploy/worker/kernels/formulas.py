"""The baselines' formulas in plain torch, spelled as a model's author would, for torch.compile to fuse.

Float32 inside, one rounding at the end. They follow the ops' definitions, not every corner of them (NaN and
blocks of zeros are the references' business): what counts here is that the compiler can do its best.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

EPS = 1e-6
_FP8_MAX = 448.0
_FP4_MAX = 6.0
_BLOCK = 16
_SMALLEST_SCALE = 2.0**-9
_FLOOR = 1 / (448.0 * 512.0)

Tensor = Any


def add_rmsnorm_fp8(x: Tensor, residual: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """x, residual [M, H], weight [H], scale [1] → e4m3 [M, H], residual [M, H]."""
    normed, summed = _add_rmsnorm(x, residual, weight)
    return quantize_fp8(normed, scale), summed


def add_rmsnorm_fp8_dynamic(x: Tensor, residual: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """The same with one scale for each row → e4m3 [M, H], scale [M, 1], residual [M, H]."""
    del scale
    normed, summed = _add_rmsnorm(x, residual, weight)
    return (*_dynamic(normed), summed)


def add_rmsnorm_nvfp4(x: Tensor, residual: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """The same into E2M1 → packed [M, H/2], e4m3 scales [M, H/16] (linear), residual [M, H]."""
    normed, summed = _add_rmsnorm(x, residual, weight)
    return (*quantize_nvfp4(normed, scale), summed)


def silu_mul_fp8(gate_up: Tensor, scale: Tensor) -> Tensor:
    """gate_up [M, 2 I], scale [1] → e4m3 [M, I]."""
    return quantize_fp8(_silu_mul(gate_up), scale)


def silu_mul_fp8_dynamic(gate_up: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """The same with one scale for each row → e4m3 [M, I], scale [M, 1]."""
    del scale
    return _dynamic(_silu_mul(gate_up))


def silu_mul_nvfp4(gate_up: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """The same into E2M1 → packed [M, I/2], e4m3 scales [M, I/16] (linear)."""
    return quantize_nvfp4(_silu_mul(gate_up), scale)


def quantize_fp8(values: Tensor, scale: Tensor) -> Tensor:
    """Any shape → e4m3 of the same shape."""
    return (values.float() / scale).clamp(-_FP8_MAX, _FP8_MAX).to(torch.float8_e4m3fn)


def quantize_nvfp4(values: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """[…, n] → packed E2M1 […, n/2] (even column in the low nibble) and e4m3 scales […, n/16]."""
    blocks = values.float().unflatten(-1, (-1, _BLOCK))
    wanted = blocks.abs().amax(-1) / (_FP4_MAX * scale)
    block_scale = wanted.clamp(_SMALLEST_SCALE, _FP8_MAX).to(torch.float8_e4m3fn)
    codes = _e2m1(blocks / (block_scale.float() * scale).unsqueeze(-1)).flatten(-2).unflatten(-1, (-1, 2))
    return (codes[..., 0] | codes[..., 1] << 4).to(torch.uint8), block_scale


def _add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    summed = x + residual
    wide = summed.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS) * weight.float()
    return normed, summed


def _silu_mul(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate.float()) * up.float()


def _dynamic(values: Tensor) -> tuple[Tensor, Tensor]:
    scale = (values.abs().amax(-1, keepdim=True) / _FP8_MAX).clamp(min=_FLOOR)
    return quantize_fp8(values, scale), scale


def _e2m1(values: Tensor) -> Tensor:
    """Codes of 0, 0.5, 1, 1.5, 2, 3, 4, 6, ties to the even code, and the sign in bit 3."""
    size = values.abs()
    code = (size > 0.25).int() + (size >= 0.75).int() + (size > 1.25).int() + (size >= 1.75).int()  # noqa: PLR2004
    code = code + (size > 2.5).int() + (size >= 3.5).int() + (size > 5).int()  # noqa: PLR2004 - halfway points
    return code + (values < 0).int() * 8
