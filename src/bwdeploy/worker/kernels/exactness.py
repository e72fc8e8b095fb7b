"""Whether an op's outputs decode to the formula in float64: a judge that shares no code with the references.

A code may be off by half a step of its type, and by what the rounding to the activation type before it costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.worker.kernels.inputs import EPS
from bwdeploy.worker.kernels.outputs import linear_scales

if TYPE_CHECKING:
    from bwdeploy.worker.kernels.cases import Case
    from bwdeploy.worker.kernels.inputs import Call

_FP8_MAX = 448.0
_FP8_HALF_STEP = 2.0**-4
_FP8_SMALLEST_HALF_STEP = 2.0**-10
_FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_FP4_HALF_STEP = 1.0
"""Between 4 and 6."""
_SCALE_ROUNDING = 1 + 2.0**-4
"""A block's scale is rounded to E4M3: its largest value may lie so far above 6."""
_ACTIVATION_ROUNDING = 2.0**-6
"""Relative; two roundings to bf16 and a step between them, with room."""
_BLOCK = 16

Tensor = Any


def formula_difference(case: Case, call: Call, outputs: dict[str, Tensor]) -> str:
    """Why the outputs are not the formula's; empty when they are, or when the case is not an ordinary one."""
    if case.filling not in {"random", "strided"} or case.experts or not case.rows:
        return ""
    wanted = _norm(call) if case.op.startswith("add_rmsnorm") else _mlp(call)
    got, allowed = _decoded(case, call, outputs, wanted)
    wrong = ~((got - wanted).abs() <= allowed + wanted.abs() * _ACTIVATION_ROUNDING)
    if not wrong.any():
        return ""
    place = tuple(int(index) for index in wrong.nonzero()[0])
    return (
        f"out: {int(wrong.sum())} of {wrong.numel()} do not decode to the float64 formula, first at {place}: "
        f"got {float(got[place]):g}, wanted {float(wanted[place]):g}"
    )


def _norm(call: Call) -> Tensor:
    x, residual, weight = (tensor.double() for tensor in call.arguments[:3])
    summed = (x + residual).to(call.arguments[0].dtype).double()
    return summed * torch.rsqrt(summed.pow(2).mean(-1, keepdim=True) + EPS) * weight


def _mlp(call: Call) -> Tensor:
    gate, up = (tensor.double() for tensor in call.arguments[:2])
    return torch.nn.functional.silu(gate) * up


def _decoded(case: Case, call: Call, outputs: dict[str, Tensor], wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Values and the error that each may have."""
    if case.scale in {"static", "dynamic"}:
        given = call.arguments[3 if case.op.startswith("add_rmsnorm") else 2]
        scale = (outputs["scale_out"][:, None] if given is None else given).double()
        got = outputs["out"].double() * scale
        beyond = (wanted.abs() - _FP8_MAX * scale).clamp(min=0)  # saturated on purpose
        return got, wanted.abs() * _FP8_HALF_STEP + scale * _FP8_SMALLEST_HALF_STEP + beyond
    scales = outputs["scales"]
    if case.scale == "swizzled":
        scales = linear_scales(scales)[: case.rows, : case.width // _BLOCK]
    global_scale = call.arguments[3 if case.op.startswith("add_rmsnorm") else 2].double()
    step = scales.double().repeat_interleave(_BLOCK, 1) * global_scale
    beyond = (wanted.abs() - _FP4[-1] * step).clamp(min=0)
    return _fp4_values(outputs["out"]) * step, step * _FP4_HALF_STEP * _SCALE_ROUNDING + beyond


def _fp4_values(packed: Tensor) -> Tensor:
    table = torch.tensor(_FP4 + tuple(-value for value in _FP4), dtype=torch.float64, device=packed.device)
    return table[torch.stack([packed & 15, packed >> 4], -1).flatten(-2).int()]
