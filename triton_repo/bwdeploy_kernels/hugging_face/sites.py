"""The places of a decoder layer where an op does what several modules did.

Each place calls one op on the flattened rows and turns its codes back into the activation type once, for
all the linear layers that read them: a linear layer here multiplies in the activation type, whatever its
weight was stored in. code * scale is taken in float32 and rounded once, as the emulation of the checkpoint
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bwdeploy_kernels.hugging_face.input_rounding import SharedRounding


class FusedNorm:
    """Residual add, RMSNorm and rounding: (x, residual) [..., H] → (their sum, its rounded norm)."""

    def __init__(self, norm: nn.Module, rounding: SharedRounding) -> None:
        self._norm: Any = norm
        self._rounding = rounding
        self._decode = Decoder(rounding)
        self._op: Any = getattr(torch.ops.bwdeploy, f"add_rmsnorm_quant_{rounding.format}").default

    def __call__(self, values: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """In one op."""
        shape, width = residual.shape, residual.shape[-1]
        rows = values.reshape(-1, width), residual.reshape(-1, width)
        arguments = (*rows, self._norm.weight, self._rounding.scale, self._norm.variance_epsilon)
        if self._rounding.format == "nvfp4":
            codes, scales, added, _ = self._op(*arguments, swizzled=False, eager_rounding=True)
        else:
            codes, added, scales, _ = self._op(*arguments, eager_rounding=True)
        return added.view(shape), self._decode(codes, scales, values.dtype).view(shape)

    def without_add(self, values: Tensor) -> Tensor:
        """The same norm and rounding where there is nothing to add, by the modules themselves."""
        return self._rounding.apply(self._norm(values))


class FusedMlp:
    """The forward of a gated MLP: silu(gate) * up and the rounding of the product in one op."""

    def __init__(self, mlp: nn.Module, rounding: SharedRounding) -> None:
        self._mlp: Any = mlp
        self._rounding = rounding
        self._decode = Decoder(rounding)
        self._op: Any = getattr(torch.ops.bwdeploy, f"silu_mul_quant_{rounding.format}").default

    def forward(self, values: Tensor) -> Tensor:
        """As the MLP's own."""
        gate, up = self._mlp.gate_proj(values), self._mlp.up_proj(values)
        shape, width = gate.shape, gate.shape[-1]
        arguments = (gate.reshape(-1, width), up.reshape(-1, width), self._rounding.scale)
        options = {"swizzled": False} if self._rounding.format == "nvfp4" else {}
        codes, scales = self._op(*arguments, **options, eager_rounding=True)
        return cast("Tensor", self._mlp.down_proj(self._decode(codes, scales, gate.dtype).view(shape)))


class Decoder:
    """Codes and scales of an op → the values they stand for, in the activation type."""

    def __init__(self, rounding: SharedRounding) -> None:
        self._scale = rounding.scale
        self._format = rounding.format
        # Made here and not when it is first needed: a CUDA graph cannot capture a copy from the host.
        self._pairs = None if rounding.scale is None else _e2m1_pairs(rounding.scale.device)

    def __call__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        """FP8 [M, H], or packed NVFP4 [M, H/2] with linear block scales → [M, H]."""
        if self._format == "nvfp4":
            return self._nvfp4(codes, scales, dtype)
        factor = scales.unsqueeze(-1) if self._scale is None else self._scale
        return (codes.to(torch.float32) * factor).to(dtype)

    def _nvfp4(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        values = functional.embedding(codes.to(torch.int32), cast("Tensor", self._pairs))
        factors = scales.to(torch.float32) * self._scale
        blocks = values.view(*scales.shape, -1) * factors.unsqueeze(-1)
        return cast("Tensor", blocks.to(dtype).view(codes.shape[0], -1))


def _e2m1_pairs(device: torch.device) -> Tensor:
    """The two values of each byte of packed E2M1 codes, low nibble first: float32 [256, 2]."""
    magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    codes = torch.tensor([*magnitudes, *(-value for value in magnitudes)], device=device)
    byte = torch.arange(256, device=device)
    return torch.stack((codes[byte & 15], codes[byte >> 4]), dim=1)
