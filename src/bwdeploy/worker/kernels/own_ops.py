"""The ops of a loaded pack as the benchmark calls them, and the buffers they share with the baselines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.worker.kernels.formulas import EPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.worker.kernels.points import Size

_SCALE = 0.02
"""Of FP8 and, as global scale, of NVFP4: normed values of about one use the upper half of the codes."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """Inputs of one launch; bf16. A norm uses the first three, an MLP `gate_up` and `activated`."""

    x: Any
    residual: Any
    weight: Any
    gate_up: Any
    activated: Any
    """[rows, width]; where a baseline writes its bf16 result."""
    scale: Any
    inverse_scale: Any
    """What FlashInfer takes for the global scale of NVFP4."""

    @property
    def gate(self) -> Any:  # noqa: ANN401 - a tensor
        """The left half of `gate_up`, a view."""
        return self.gate_up[:, : self.gate_up.shape[1] // 2]

    @property
    def up(self) -> Any:  # noqa: ANN401 - a tensor
        """The right half of `gate_up`, a view."""
        return self.gate_up[:, self.gate_up.shape[1] // 2 :]


def make_buffers(size: Size, *, sets: int = 0) -> tuple[Buffers, ...]:
    """Random inputs on the GPU; `sets` 0: as many as the size asks for."""
    weight, scale = _random(size.width).abs() + 0.5, torch.tensor([_SCALE], device="cuda")
    return tuple(_one_set(size, weight, scale) for _ in range(sets or size.sets))


def own_call(op: str, variant: str, buffers: Buffers, *, pdl: bool = True) -> Callable[[], Any]:
    """One launch of an op of the pack; norms update the residual in place."""
    ops: Any = torch.ops.bwdeploy
    made, _, kind = variant.partition(" ")
    options: dict[str, Any] = {"pdl": pdl}
    if made == "nvfp4":
        options["swizzled"] = kind == "swizzled"
    scale = None if kind == "dynamic" else buffers.scale
    if op.startswith("silu_mul"):
        return partial(getattr(ops, op), buffers.gate, buffers.up, scale, **options)
    inputs = (buffers.x, buffers.residual, buffers.weight, scale, EPS)
    return partial(getattr(ops, f"{op}_"), *inputs, **options)


def _one_set(size: Size, weight: Any, scale: Any) -> Buffers:  # noqa: ANN401 - tensors
    rows, width = size.rows, size.width
    if size.family == "norm":
        return Buffers(_random(rows, width), _random(rows, width), weight, None, None, scale, 1 / scale)
    activated = torch.empty(rows, width, device="cuda", dtype=torch.bfloat16)
    return Buffers(None, None, weight, _random(rows, 2 * width), activated, scale, 1 / scale)


def _random(*shape: int) -> Any:  # noqa: ANN401 - a tensor
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
