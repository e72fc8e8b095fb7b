"""NVFP4's rounding and back in one GPU kernel, for finite values the same to the bit as `formats` has it.

As tensor functions it takes some twenty kernels, more time than the matrices of a small model. Written in
Triton's language, which torch's CUDA builds bring along; only imported where there is a CUDA device. Numbers
in it are E2M1_MAX, E4M3_MAX and E4M3_SMALLEST of `formats`, and 1.5 · 2^23, which rounds what is added to it.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from bwdeploy_runtime.formats import NVFP4_GROUP

if TYPE_CHECKING:
    from torch import Tensor

_GROUPS = 64
"""Groups of 16 values in one program."""


def fake_quantize_nvfp4(values: Tensor, global_scale: Tensor) -> Tensor:
    """`formats.fake_quantize_nvfp4` of [..., n], n a multiple of 16, with a float32 scalar on its device."""
    whole = values.contiguous()
    rounded = torch.empty_like(whole)
    groups = whole.numel() // NVFP4_GROUP
    if groups:
        with torch.cuda.device(whole.device):
            _round_groups[(triton.cdiv(groups, _GROUPS),)](
                whole, global_scale, rounded, groups, GROUPS=_GROUPS, SIZE=NVFP4_GROUP
            )
    return rounded


@triton.jit
def _to_integer(values):
    """The nearest one, ties to even, of magnitudes below 2^22."""
    return (values + 12582912.0) - 12582912.0


@triton.jit
def _to_e4m3(ratio):
    """The nearest E4M3 value of a positive one that lies in its range."""
    exponent = tl.maximum((ratio.to(tl.int32, bitcast=True) >> 23) - 127, -6)
    step = ((exponent - 3 + 127) << 23).to(tl.float32, bitcast=True)
    steps_in_one = ((127 - exponent + 3) << 23).to(tl.float32, bitcast=True)
    return _to_integer(ratio * steps_in_one) * step


@triton.jit
def _round_groups(values, global_scale, rounded, groups, GROUPS: tl.constexpr, SIZE: tl.constexpr):
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    places = group[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    there = (group < groups)[:, None]
    value = tl.load(values + places, mask=there, other=0.0).to(tl.float32)
    scale = tl.load(global_scale).to(tl.float32)
    ratio = tl.div_rn(tl.max(tl.abs(value), axis=1), 6.0 * scale)
    ratio = tl.where(ratio == 0.0, 1.0, tl.minimum(tl.maximum(ratio, 0.001953125), 448.0))
    scales = (_to_e4m3(ratio) * scale)[:, None]
    scaled = tl.div_rn(value, tl.broadcast_to(scales, (GROUPS, SIZE)))
    magnitude = tl.abs(scaled)
    step = tl.where(magnitude >= 4.0, 2.0, tl.where(magnitude >= 2.0, 1.0, 0.5))
    steps_in_one = tl.where(magnitude >= 4.0, 0.5, tl.where(magnitude >= 2.0, 1.0, 2.0))
    nearest = _to_integer(scaled * steps_in_one) * step
    code = tl.clamp(nearest, -6.0, 6.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(rounded + places, (code * scales).to(rounded.dtype.element_ty), mask=there)
