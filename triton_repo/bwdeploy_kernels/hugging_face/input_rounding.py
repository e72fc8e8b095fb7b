"""How a linear layer's input is rounded, as far as the ops can do the same.

The runtime that loaded the model says it in the attribute `input_rounding` of each quantized linear layer
(see `InputRounding`), and rounds in a forward pre-hook. Once an op rounds, the hook is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch

from bwdeploy_kernels.eligibility import MULTIPLE_OF
from bwdeploy_kernels.hugging_face.exactness import NotReplaceable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

OPS_OF = {"fp8": "fp8", "fp8_token": "fp8", "nvfp4": "nvfp4"}
"""Kind of rounding → the format that an op's name ends with."""


@runtime_checkable
class InputRounding(Protocol):
    """What is looked for in `module.input_rounding`; anything of this shape will do."""

    @property
    def kind(self) -> str:
        """`fp8` has one static scale, `fp8_token` one for each row, `nvfp4` one and block scales."""

    @property
    def input_scale(self) -> Tensor | None:
        """One float32 value; amax / 448 for FP8, amax / (6 · 448) for NVFP4."""

    @property
    def smoothing(self) -> Tensor | None:
        """What the input is multiplied by first."""

    def apply(self, values: Tensor) -> Tensor:
        """Round `values` and keep their type."""

    def remove(self) -> None:
        """Round no more: from now on the input comes rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRounding:
    """The one rounding of linear layers that read the same input."""

    roundings: tuple[InputRounding, ...]
    kind: str
    scale: Tensor | None
    """float32 [1]; None: it follows the values of each row."""

    @property
    def format(self) -> str:
        """`fp8` or `nvfp4`."""
        return OPS_OF[self.kind]

    def apply(self, values: Tensor) -> Tensor:
        """Round as the layers would have done."""
        return self.roundings[0].apply(values)

    def take_over(self) -> None:
        """Take the rounding off the layers."""
        for rounding in self.roundings:
            rounding.remove()


def shared_rounding(layers: Sequence[nn.Module], names: Sequence[str]) -> SharedRounding:
    """The rounding that all these linear layers ask for.

    Raises:
        NotReplaceable: they do not round, not in the same way, or in a way that no op has.
    """
    roundings = [_rounding(layer, name) for layer, name in zip(layers, names, strict=True)]
    kinds = dict.fromkeys(rounding.kind for rounding in roundings)
    if len(kinds) > 1:
        raise NotReplaceable(f"{', '.join(names)} round their input in different ways: {', '.join(kinds)}")
    first = roundings[0]
    for name, rounding in zip(names[1:], roundings[1:], strict=True):
        if not _same(first.input_scale, rounding.input_scale):
            raise NotReplaceable(f"{names[0]} and {name} have different input scales")
    weight = cast("Tensor", layers[0].weight)
    _check_width(weight.shape[-1], first.kind)
    return SharedRounding(roundings=tuple(roundings), kind=first.kind, scale=_scale(first, weight, names[0]))


def _rounding(layer: nn.Module, name: str) -> InputRounding:
    rounding = getattr(layer, "input_rounding", None)
    if not isinstance(rounding, InputRounding):
        raise NotReplaceable(f"the input of {name} is not rounded")
    if rounding.kind not in OPS_OF:
        raise NotReplaceable(f"the input of {name} is rounded to {rounding.kind}, which no op does")
    if rounding.smoothing is not None:
        raise NotReplaceable(f"the input of {name} is multiplied by a smoothing vector before it is rounded")
    return rounding


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(torch.equal(one.reshape(-1), other.reshape(-1)))


def _scale(rounding: InputRounding, weight: Tensor, name: str) -> Tensor | None:
    if rounding.kind == "fp8_token":
        return None
    if rounding.input_scale is None:
        raise NotReplaceable(f"{name} has no input_scale: its scale follows the whole tensor, not each row")
    if rounding.input_scale.numel() != 1:
        raise NotReplaceable(f"{name} has {rounding.input_scale.numel()} input scales, not one")
    return rounding.input_scale.to(device=weight.device, dtype=torch.float32).reshape(1)


def _check_width(width: int, kind: str) -> None:
    multiple = MULTIPLE_OF[OPS_OF[kind]]
    if width % multiple:
        raise NotReplaceable(f"its width is {width}, not a multiple of {multiple}")
