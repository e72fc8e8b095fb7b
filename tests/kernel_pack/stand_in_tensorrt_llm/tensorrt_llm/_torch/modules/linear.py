"""As tensorrt_llm/_torch/modules/linear.py: what a Linear takes is rounded here unless it comes rounded.

FP8QDQLinearMethod takes float8_e4m3fn as it is; NVFP4LinearMethod takes an Fp4QuantizedTensor with uint8
codes [M, K/2] and uint8 scales, flat, in tiles of 128 x 4. `input_scale` of NVFP4 is 6 * 448 / amax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bwdeploy_kernels.rounding import quantize_nvfp4
from tensorrt_llm._torch.utils import Fp4QuantizedTensor

_E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


class Linear(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        quant: str | None,
        dtype: Any = torch.bfloat16,
        tensor_parallel_mode: str | None = None,
        force_dynamic_quantization: bool = False,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(in_features + out_features)
        self.in_features, self.out_features, self.dtype = in_features, out_features, dtype
        self.has_fp8_qdq, self.has_nvfp4 = quant == "fp8", quant == "nvfp4"
        self.force_dynamic_quantization = force_dynamic_quantization
        self.tp_mode = tensor_parallel_mode
        self.weight = nn.Parameter(torch.randn(out_features, in_features, generator=generator) * 0.1)
        self.input_scale: Any = None
        if self.has_fp8_qdq:
            self.input_scale = nn.Parameter(torch.tensor(4.0 / 448), requires_grad=False)
        if self.has_nvfp4:
            self.scaling_vector_size = 16
            self.input_scale = nn.Parameter(torch.tensor([6.0 * 448 / 4]), requires_grad=False)
        self.rounded_before = 0
        """Calls whose input came rounded."""

    def forward(self, input: Any, *, all_reduce_params: Any = None, layer_idx: int | None = None) -> Any:  # noqa: A002
        del all_reduce_params, layer_idx
        if self.has_fp8_qdq:
            values = self._fp8(input)
        elif self.has_nvfp4:
            values = self._nvfp4(input)
        else:
            assert input.dtype is self.dtype
            values = input.float()
        return (values @ self.weight.float().T).to(self.dtype)

    def _fp8(self, rows: Any) -> Any:
        if rows.dtype is not torch.float8_e4m3fn:
            rows = (rows.float() / self.input_scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        else:
            self.rounded_before += 1
        assert rows.shape[-1] == self.in_features
        return rows.float() * self.input_scale

    def _nvfp4(self, rows: Any) -> Any:
        if not isinstance(rows, Fp4QuantizedTensor):
            return _rounded_to_nvfp4(rows, self.input_scale)
        self.rounded_before += 1
        codes, scales = rows.fp4_tensor, rows.scaling_factor
        count, columns = codes.shape[0], self.in_features // 16
        padded = -(-count // 128) * 128, -(-columns // 4) * 4
        assert rows.is_sf_swizzled
        assert codes.dtype is torch.uint8
        assert codes.shape == (count, self.in_features // 2)
        assert scales.dtype is torch.uint8
        assert scales.shape == (padded[0] * padded[1],)
        tiles = scales.view(torch.float8_e4m3fn).view(padded[0] // 128, padded[1] // 4, 32, 4, 4)
        linear = tiles.permute(0, 3, 2, 1, 4).reshape(padded)[:count, :columns].float()
        return _values(codes, linear / self.input_scale)


def _rounded_to_nvfp4(rows: Any, input_scale: Any) -> Any:
    """fp4_quantize and back."""
    codes, scales = quantize_nvfp4(rows, 1 / input_scale)
    return _values(codes, scales.float() / input_scale)


def _values(codes: Any, factors: Any) -> Any:
    """Packed codes [M, K/2] and factors of their blocks [M, K/16] → [M, K]."""
    values = torch.tensor([*_E2M1, *(-value for value in _E2M1)])
    unpacked = torch.stack((values[(codes & 15).long()], values[(codes >> 4).long()]), dim=-1)
    return (unpacked.reshape(*factors.shape, 16) * factors.unsqueeze(-1)).flatten(1)
