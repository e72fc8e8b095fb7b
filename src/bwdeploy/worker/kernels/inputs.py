"""The tensors of one comparison, drawn anew from a seed of its own."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Device
    from bwdeploy.worker.kernels.cases import Case

EPS = 1e-6
_APART = 64
"""Elements between rows of a strided input; keeps them 16-byte aligned."""
_MAGNITUDE = {"tiny": 1e-4, "large": 1e3}
_SCALES = {"static": 0.0123, "swizzled": 2.7e-3, "linear": 2.7e-3}


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of a torch op."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def copy(self) -> Call:
        """The same with tensors of its own, strides kept."""
        arguments = tuple(_copied(value) for value in self.arguments)
        return Call(arguments, {name: _copied(value) for name, value in self.options.items()})


def make_call(case: Case, device: Device) -> Call:
    """What the op and its reference are called with."""
    generator = torch.Generator(device).manual_seed(zlib.crc32(f"{case.op} {case.name}".encode()))
    make = _norm if case.op.startswith("add_rmsnorm") else _mlp
    call = make(case, generator)
    call.options["eager_rounding"] = case.eager_rounding
    if case.scale in {"swizzled", "linear"}:
        call.options["swizzled"] = case.scale == "swizzled"
    return call


def _norm(case: Case, generator: torch.Generator) -> Call:
    spread = _MAGNITUDE.get(case.filling, 1.0)
    x, residual = (_activation(case, generator, spread=spread) for _ in range(2))
    weight = 1 + 0.3 * torch.randn(case.width, device=generator.device, generator=generator)
    if case.filling == "zero rows" and case.rows:
        x[case.rows // 2] = 0
        residual[case.rows // 2] = 0
    arguments = (x, residual, weight.to(x.dtype), _scale(case, generator, 1), EPS)
    return Call(arguments, {"return_normed": True})


def _mlp(case: Case, generator: torch.Generator) -> Call:
    # The product of two large halves would leave the range of fp16.
    gate = _activation(case, generator, spread=3.0 * _MAGNITUDE.get(case.filling, 1.0))
    up = _activation(case, generator, spread=1.0)
    if case.filling == "zero rows" and case.rows:
        up[case.rows // 2] = 0
    options: dict[str, Any] = {}
    if case.experts:
        counts = torch.randint(
            0, case.rows + 1, (case.experts,), device=generator.device, generator=generator, dtype=torch.int32
        )
        options["rows_per_expert"] = counts
    return Call((gate, up, _scale(case, generator, max(1, case.experts))), options)


def _activation(case: Case, generator: torch.Generator, *, spread: float) -> Any:  # noqa: ANN401
    rows, width = case.rows * max(1, case.experts), case.width
    apart = _APART if case.filling == "strided" else 0
    values = torch.randn(rows, width + apart, device=generator.device, generator=generator)
    values = (values * spread).to(getattr(torch, case.activation))[:, :width]
    if case.filling == "not finite":
        values[1, 3] = float("nan")
        values[2, width - 1] = float("inf")
        values[3, 0] = float("-inf")
    return values


def _scale(case: Case, generator: torch.Generator, count: int) -> Any:  # noqa: ANN401 - a tensor or None
    if case.scale == "dynamic":
        return None
    spread = 1 + torch.rand(count, device=generator.device, generator=generator)
    return spread * _SCALES[case.scale]


def _copied(value: Any) -> Any:  # noqa: ANN401 - any argument
    if not isinstance(value, torch.Tensor):
        return value
    copy = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return copy.copy_(value)
