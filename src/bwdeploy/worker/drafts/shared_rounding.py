"""Layers that read the same input round it once: q, k and v, gate and up, where their scales are equal.

The emulated rounding of a quantized model's inputs takes one kernel or many for each layer, which counts
where the model is small. Nothing else changes: what a layer computes with is the same to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


class _LastRounded:
    """The newest input that was rounded: one of them, so that no activation lives on for long."""

    def __init__(self) -> None:
        self.rounding: Any = None
        self.values: Tensor | None = None
        self.rounded: Tensor | None = None

    def take(self, rounding: Any, values: Tensor) -> Tensor | None:  # noqa: ANN401 - an InputRounding
        """`values` as `rounding` rounds them."""
        if self.rounding is not rounding or self.values is not values:
            self.rounding, self.values, self.rounded = rounding, values, rounding.apply(values)
        return self.rounded


def share_roundings(model: nn.Module) -> int:
    """Let layers below one module that round alike share what they round; how many no longer do it alone."""
    last, shared = _LastRounded(), 0
    for module in model.modules():
        for layers in _alike(module):
            for layer in layers:
                layer.input_rounding.remove()
                layer.register_forward_pre_hook(_hook(layers[0].input_rounding, last))
            shared += len(layers) - 1
    return shared


def _hook(rounding: Any, last: _LastRounded) -> Any:  # noqa: ANN401 - a forward pre-hook
    return lambda _layer, inputs: (last.take(rounding, inputs[0]), *inputs[1:])


def _alike(module: nn.Module) -> Iterator[list[Any]]:
    """Children of a module whose inputs are rounded in the same way, at least two together."""
    left = [child for child in module.children() if hasattr(child, "input_rounding")]
    while left:
        first = left[0].input_rounding
        alike = [one for one in left if _same(first, one.input_rounding)]
        left = [one for one in left if not _same(first, one.input_rounding)]
        if len(alike) > 1:
            yield alike


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - InputRounding
    return one is other or (
        one.kind == other.kind
        and _equal(one.input_scale, other.input_scale)
        and _equal(one.smoothing, other.smoothing)
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)
