"""What happens to the input of a quantized linear layer before the layer reads it.

The rounding is that of `formats`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy_runtime.formats import fake_quantize_activation

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from bwdeploy_runtime.formats import Activation


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
        return fake_quantize_activation(smoothed, self.kind, self.input_scale)

    def _before_forward(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.apply(inputs[0]), *inputs[1:])
