"""What happens to the input of a quantized linear layer before the layer reads it.

The rounding is that of `formats`. NVFP4 on a GPU takes one kernel in place of some twenty.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from bwdeploy_runtime.formats import NVFP4_GROUP, fake_quantize_activation, fake_quantize_nvfp4

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from bwdeploy_runtime.formats import Activation

_LOG = logging.getLogger(__name__)


class InputRounding:
    """How the input of a linear layer is changed: multiplied by the smoothing vector, then rounded.

    It stands in the layer's attribute `input_rounding`, where whoever rounds in an earlier kernel finds it.
    """

    def __init__(
        self, *, kind: Activation, input_scale: Tensor | None, smoothing: Tensor | None, like: Tensor
    ) -> None:
        self.kind = kind
        self.input_scale = None if input_scale is None else input_scale.to(like.device)
        self.smoothing = None if smoothing is None else smoothing.to(device=like.device, dtype=like.dtype)
        self._hook: RemovableHandle | None = None

    def attach(self, layer: nn.Module) -> None:
        """Do so from now on in a forward pre-hook of `layer`."""
        self._hook = layer.register_forward_pre_hook(self._before_forward)
        layer.input_rounding = self

    def remove(self) -> None:
        """Leave the input as it comes: from now on it comes rounded."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def apply(self, values: Tensor) -> Tensor:
        """`values` as the layer is meant to see them, in their own type."""
        smoothed = values if self.smoothing is None else values * self.smoothing
        scale = self.input_scale
        if self.kind == "nvfp4" and scale is not None and _fits_the_kernel(smoothed):
            return _nvfp4_on_gpu()(smoothed, scale)
        return fake_quantize_activation(smoothed, self.kind, scale)

    def _before_forward(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.apply(inputs[0]), *inputs[1:])


def _fits_the_kernel(values: Tensor) -> bool:
    return bool(values.is_cuda) and values.shape[-1] % NVFP4_GROUP == 0


@cache
def _nvfp4_on_gpu() -> Callable[[Tensor, Tensor], Tensor]:
    """The kernel where Triton can make it and it rounds as `formats` does, else the function there."""
    try:
        kernel: Callable[[Tensor, Tensor], Tensor] = import_module(
            "bwdeploy_runtime.nvfp4_rounding"
        ).fake_quantize_nvfp4
        scale = torch.full((), 5e-3, device="cuda")
        values = torch.linspace(-9.0, 9.0, 4096, device="cuda").view(NVFP4_GROUP, -1).T
        if torch.equal(kernel(values, scale), fake_quantize_nvfp4(values, scale)):
            return kernel
        reason = "it rounds otherwise on this GPU"
    except Exception as error:  # noqa: BLE001 - whatever is missing for the compiler, or what it says
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    _LOG.warning("inputs are rounded to NVFP4 without the kernel for it, which takes longer: %s", reason)
    return fake_quantize_nvfp4
