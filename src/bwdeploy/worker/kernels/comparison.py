"""Whether what an op returned is what its reference says, output by output.

A new residual is one rounded sum, so it must agree everywhere. Behind a sum over a row or an exponential,
two correct float32 computations may fall on either side of a halfway point: rarely, and then by one step of
the type that is rounded to. More, or oftener, is a defect.
"""

from __future__ import annotations

from typing import Any

import torch

_RARELY = 0.005
_FEW = 2
"""Of a handful of elements even one is more than half a percent."""
_NAN_FP8 = 0x7F
_STEPS_OF_ACTIVATION = {False: 1, True: 2}
"""With eager rounding a difference of one step is multiplied by the weight before it is rounded again."""
_SCALE_STEP = 2.0**-7
"""A float32 scale follows the largest value of its row, which is rounded to the activation type."""

Tensor = Any


def difference(name: str, got: Tensor, wanted: Tensor, *, eager_rounding: bool) -> str:
    """Why `got` is wrong; empty when it is right. `name` is the output's in the schema's order of use."""
    shape = _shape_difference(got, wanted)
    if shape or not wanted.numel():
        return f"{name}: {shape}" if shape else ""
    if name == "residual_out":
        return "" if _same_values(got, wanted) else f"{name}: {_first_difference(got, wanted)}"
    if wanted.dtype == torch.float32:
        return _scale_difference(name, got, wanted)
    if wanted.dtype == torch.float8_e4m3fn:
        return _step_difference(name, _ordered_fp8(got), _ordered_fp8(wanted), 1)
    if wanted.dtype == torch.uint8:
        return _step_difference(name, _ordered_fp4(got), _ordered_fp4(wanted), 1)
    return _step_difference(
        name, _ordered_16_bit(got), _ordered_16_bit(wanted), _STEPS_OF_ACTIVATION[eager_rounding]
    )


def _shape_difference(got: Tensor, wanted: Tensor) -> str:
    described = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in (got, wanted)]
    return "" if described[0] == described[1] else f"got {described[0]}, wanted {described[1]}"


def _same_values(got: Tensor, wanted: Tensor) -> bool:
    return bool(((got == wanted) | (got.isnan() & wanted.isnan())).all())


def _first_difference(got: Tensor, wanted: Tensor) -> str:
    differs = ~((got == wanted) | (got.isnan() & wanted.isnan()))
    place = tuple(int(index) for index in differs.nonzero()[0])
    return f"{int(differs.sum())} differ, first at {place}: got {got[place]}, wanted {wanted[place]}"


def _scale_difference(name: str, got: Tensor, wanted: Tensor) -> str:
    """Rows that hold infinity or NaN have no scale that means anything."""
    finite = wanted.isfinite()
    wrong = finite & ~((got - wanted).abs() <= wanted * _SCALE_STEP)
    if not wrong.any():
        return ""
    row = int(wrong.nonzero()[0])
    return f"{name}: {int(wrong.sum())} differ, first in row {row}: got {got[row]:g}, wanted {wanted[row]:g}"


def _step_difference(name: str, got: Tensor, wanted: Tensor, steps: int) -> str:
    distance = (got - wanted).abs()
    differing, farthest = int((distance > 0).sum()), int(distance.max())
    allowed = max(_FEW, int(_RARELY * distance.numel()))
    if farthest <= steps and differing <= allowed:
        return ""
    place = tuple(int(index) for index in (distance == farthest).nonzero()[0])
    return (
        f"{name}: {differing} of {distance.numel()} differ (at most {allowed} may), "
        f"the farthest by {farthest} steps (at most {steps}), at {place}"
    )


def _ordered_fp8(values: Tensor) -> Tensor:
    """Neighboring numbers get neighboring integers, both zeros 0, every NaN the same far one."""
    code = values.view(torch.uint8).int()
    size = code & _NAN_FP8
    ordered = torch.where(code > _NAN_FP8, -size, size)
    return torch.where(size == _NAN_FP8, 1000, ordered)


def _ordered_fp4(packed: Tensor) -> Tensor:
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(-2).int()
    size = codes & 7
    return torch.where(codes > 7, -size, size)  # noqa: PLR2004 - the sign is bit 3


def _ordered_16_bit(values: Tensor) -> Tensor:
    code = values.contiguous().view(torch.int16).int()
    ordered = torch.where(code < 0, -(code & 0x7FFF), code)
    return torch.where(values.isnan(), 100_000, ordered)
