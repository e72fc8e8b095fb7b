"""The rounding that the reference runtime emulates is the rounding of the kernels, value for value."""

from __future__ import annotations

import pytest
import torch

from bwdeploy_kernels.rounding import dequantize_nvfp4, quantize_e4m3, quantize_nvfp4, token_scales
from bwdeploy_runtime.formats import fake_quantize_activation

SCALE = torch.tensor([0.0037])


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def values(request: pytest.FixtureRequest) -> torch.Tensor:
    """Rows from far below the smallest scale to far beyond the largest value, one of zeros, one with NaN."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(64, 96, generator=generator) * torch.logspace(-7, 4, 64).unsqueeze(-1)
    rows[5] = 0
    rows[6, 3] = float("nan")
    rows[7, 40] = float("inf")
    return rows.to(request.param)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.equal(torch.nan_to_num(one, nan=12345.0), torch.nan_to_num(other, nan=12345.0)))


def test_static_fp8(values: torch.Tensor) -> None:
    decoded = (quantize_e4m3(values, SCALE).float() * SCALE).to(values.dtype)
    assert same(fake_quantize_activation(values, "fp8", SCALE), decoded)


def test_fp8_with_a_scale_for_each_row(values: torch.Tensor) -> None:
    scales = token_scales(values).unsqueeze(-1)
    decoded = (quantize_e4m3(values, scales).float() * scales).to(values.dtype)
    assert same(fake_quantize_activation(values, "fp8_token", None), decoded)


def test_nvfp4(values: torch.Tensor) -> None:
    decoded = dequantize_nvfp4(*quantize_nvfp4(values, SCALE), SCALE).to(values.dtype)
    assert same(fake_quantize_activation(values, "nvfp4", SCALE), decoded)
