"""bwdeploy_kernels.rounding against ModelOpt's own quantizers and against formulas written another way."""

from __future__ import annotations

import itertools

import pytest
import torch
from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor

from bwdeploy_kernels.rounding import (
    dequantize_nvfp4,
    pack_e2m1,
    quantize_e4m3,
    quantize_nvfp4,
    swizzle,
    swizzled_shape,
    to_e2m1,
    to_e4m3,
    token_scales,
    unpack_e2m1,
    unswizzle,
)

_TYPES = (torch.bfloat16, torch.float16)
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _every_value(dtype: torch.dtype) -> torch.Tensor:
    """All 65,536 bit patterns, near ones in the same block of 16."""
    values = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype)
    return values[values.float().abs().nan_to_num(float("inf")).argsort()].view(64, 1024)


@pytest.mark.parametrize("dtype", _TYPES)
@pytest.mark.parametrize("global_scale", [1.0, 2.7e-3, 3e-30, 1e30])
def test_nvfp4_has_the_bytes_and_scales_of_modelopt_for_every_value(
    dtype: torch.dtype, global_scale: float
) -> None:
    values, scale = _every_value(dtype), torch.tensor([global_scale])
    theirs, their_scales, _ = NVFP4QTensor.quantize(values.clone(), 16, weights_scaling_factor_2=scale)
    packed, scales = quantize_nvfp4(values, scale)
    assert torch.equal(packed, theirs._quantized_data)
    finite = ~scales.float().isnan()  # a NaN scale may have either sign
    assert torch.equal(finite, ~their_scales.float().isnan())
    assert torch.equal(scales.view(torch.uint8)[finite], their_scales.view(torch.uint8)[finite])


def test_nvfp4_decodes_as_modelopt_decodes() -> None:
    values, scale = torch.randn(8, 64).bfloat16(), torch.tensor([1e-3])
    theirs, their_scales, _ = NVFP4QTensor.quantize(values.clone(), 16, weights_scaling_factor_2=scale)
    decoded = theirs.dequantize(torch.float32, scale=their_scales, double_scale=scale, block_sizes={-1: 16})
    assert torch.equal(dequantize_nvfp4(*quantize_nvfp4(values, scale), scale), decoded)


@pytest.mark.parametrize("dtype", _TYPES)
def test_fp8_has_the_bytes_of_modelopt_for_every_finite_value(dtype: torch.dtype) -> None:
    values = _every_value(dtype)
    values = values[values.isfinite()].float()  # ModelOpt divides in float32 only when given float32
    scale = values.abs().max() / torch.tensor(448.0)
    theirs, _ = FP8QTensor.quantize(values, scale)
    assert torch.equal(
        quantize_e4m3(values, scale).view(torch.uint8), theirs._quantized_data.view(torch.uint8)
    )


def test_e4m3_saturates_and_keeps_nan_and_the_sign_of_zero() -> None:
    values = torch.tensor([1e30, -1e30, float("inf"), float("nan"), -0.0, 449.0])
    rounded = to_e4m3(values)
    assert rounded.float()[[0, 1, 2, 5]].tolist() == [448.0, -448.0, 448.0, 448.0]
    assert rounded.float()[3].isnan()
    assert rounded.view(torch.uint8)[4] == 0x80


def test_e2m1_is_the_nearest_value_with_ties_to_the_even_code() -> None:
    values = torch.cat([torch.linspace(-7, 7, 1401), torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])])
    for value, code in zip(values.tolist(), to_e2m1(values).tolist(), strict=True):
        distances = [abs(abs(value) - magnitude) for magnitude in _E2M1]
        nearest = [index for index, distance in enumerate(distances) if distance == min(distances)]
        wanted = nearest[0] if len(nearest) == 1 else next(index for index in nearest if index % 2 == 0)
        assert code == wanted + (8 if value < 0 else 0), value


def test_codes_are_packed_with_the_even_column_in_the_low_nibble() -> None:
    assert pack_e2m1(torch.tensor([[1, 2, 15, 8]], dtype=torch.uint8)).tolist() == [[0x21, 0x8F]]
    assert unpack_e2m1(torch.tensor([[0x21, 0x8F]], dtype=torch.uint8)).tolist() == [[0.5, 1.0, -6.0, 0.0]]


def test_token_scales_follow_the_largest_magnitude_down_to_a_floor() -> None:
    values = torch.tensor([[1.0, -896.0], [0.0, 0.0], [1.0, float("nan")]])
    scales = token_scales(values)
    assert scales[:2].tolist() == [2.0, pytest.approx(1 / (448 * 512))]
    assert scales[2].isnan()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (127, 5), (128, 4), (300, 130)])
def test_swizzle_puts_each_scale_at_its_offset_in_a_128_by_4_tile(rows: int, columns: int) -> None:
    scales = torch.randint(1, 255, (rows, columns), dtype=torch.uint8)
    padded_rows, padded_columns = swizzled_shape(rows, columns * 16)
    wanted = torch.zeros(padded_rows * padded_columns, dtype=torch.uint8)
    for row, column in itertools.product(range(rows), range(columns)):
        tile = row // 128 * (padded_columns // 4) + column // 4
        wanted[tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4] = scales[row, column]
    swizzled = swizzle(scales.view(torch.float8_e4m3fn))
    assert torch.equal(swizzled.view(torch.uint8), wanted.view(padded_rows, padded_columns))
    assert torch.equal(unswizzle(swizzled, rows, columns).view(torch.uint8), scales)


def test_swizzled_scales_of_no_rows_are_empty() -> None:
    empty = torch.empty(0, 8, dtype=torch.uint8).view(torch.float8_e4m3fn)
    assert swizzle(empty).shape == swizzled_shape(0, 128) == (0, 8)
