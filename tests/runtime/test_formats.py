from __future__ import annotations

import pytest
import torch

from bwdeploy_runtime import formats

VALUES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def nearest_e2m1(value: float) -> float:
    """Nearest value, ties to the even code, by search."""
    best = min(range(8), key=lambda code: (abs(VALUES[code] - abs(value)), code % 2))
    return VALUES[best] if value >= 0 else -VALUES[best]


def test_e2m1_rounding_is_nearest_even_everywhere() -> None:
    grid = torch.arange(-8 * 64, 8 * 64 + 1) / 64
    expected = torch.tensor([nearest_e2m1(float(value)) for value in grid])
    assert torch.equal(formats.round_to_e2m1(grid), expected)


def test_low_nibble_is_the_even_column_and_bit_three_is_the_sign() -> None:
    packed = torch.tensor([[0x21, 0xF9]], dtype=torch.uint8)
    assert formats.unpack_e2m1(packed).tolist() == [[0.5, 1.0, -0.5, -6.0]]


def test_e8m0_scales_are_powers_of_two_with_bias_127() -> None:
    assert formats.decode_e8m0(torch.tensor([127, 128, 120], dtype=torch.uint8)).tolist() == [1, 2, 2**-7]


@pytest.mark.parametrize("shape", [(1, 1, 2, 1), (1, 2)])
def test_fp8_block_scales_cover_odd_edges(shape: tuple[int, ...]) -> None:
    weight = torch.ones(100, 200).to(torch.float8_e4m3fn)
    scale = torch.tensor([2.0, 3.0]).reshape(shape)
    dequantized = formats.dequantize_fp8_blocks(weight, scale)
    assert dequantized[:, :128].unique().tolist() == [2.0]
    assert dequantized[:, 128:].unique().tolist() == [3.0]


def test_fp8_row_scales_apply_to_rows() -> None:
    weight = torch.ones(2, 3).to(torch.float8_e4m3fn)
    assert formats.dequantize_fp8(weight, torch.tensor([2.0, 5.0])).tolist() == [[2.0] * 3, [5.0] * 3]


@pytest.mark.parametrize("kind", ["nvfp4", "fp8", "fp8_token", "mxfp4", "mxfp8"])
@pytest.mark.parametrize("width", [64, 40, 1])
def test_activation_rounding_keeps_shape_dtype_and_zero(kind: formats.Activation, width: int) -> None:
    values = torch.randn(3, 5, width, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    values[0, 0] = 0
    rounded = formats.fake_quantize_activation(values, kind, None)
    assert (rounded.shape, rounded.dtype) == (values.shape, values.dtype)
    assert not rounded[0, 0].any()
    assert torch.isfinite(rounded).all()
    assert float((rounded - values).float().norm() / values.float().norm()) < 0.2


@pytest.mark.parametrize("kind", ["nvfp4", "fp8"])
def test_values_beyond_the_static_range_saturate(kind: formats.Activation) -> None:
    scale = torch.tensor(1.0 / 448) if kind == "fp8" else torch.tensor(1.0 / (6 * 448))
    assert formats.fake_quantize_activation(torch.full((1, 16), 50.0), kind, scale).max() <= 1.0 + 1e-6


def test_all_zero_tensor_stays_zero() -> None:
    zeros = torch.zeros(2, 32)
    for kind in ("nvfp4", "fp8", "fp8_token", "mxfp4", "mxfp8"):
        assert torch.equal(formats.fake_quantize_activation(zeros, kind, None), zeros)
