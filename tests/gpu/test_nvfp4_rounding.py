"""The kernel that rounds inputs to NVFP4 on a CUDA GPU, beside the functions of `formats`."""

from __future__ import annotations

import logging

import pytest
import torch

from bwdeploy_runtime.formats import fake_quantize_nvfp4
from bwdeploy_runtime.input_rounding import InputRounding

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [1e-4, 1.0, 3000.0])
@pytest.mark.parametrize("scale", [1e-6, 0.0123456, 0.5])
def test_the_kernel_rounds_as_formats_does_to_the_bit(
    dtype: torch.dtype, spread: float, scale: float, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    values = (torch.randn(70, 5, 576) * spread * torch.rand(70, 5, 1)).to("cuda", dtype)
    values[0] = 0
    values[1] *= 1e-6
    values[2] = torch.randint(-12, 13, (5, 576)).to(values) * 0.25 * 6 * scale  # many ties
    values[3, 0, 0] = float("inf")
    global_scale = torch.tensor(scale, device="cuda")
    layer = torch.nn.Linear(576, 8, device="cuda", dtype=dtype)
    rounding = InputRounding(kind="nvfp4", input_scale=global_scale, smoothing=None, like=layer.weight)
    with caplog.at_level(logging.WARNING):
        rounded = rounding.apply(values)
    assert "without the kernel" not in caplog.text
    assert torch.equal(rounded, fake_quantize_nvfp4(values, global_scale))
    turned = values.transpose(0, 1)
    assert torch.equal(rounding.apply(turned), rounded.transpose(0, 1))


def test_a_row_that_is_no_multiple_of_a_block_is_padded() -> None:
    values = torch.randn(3, 40, device="cuda")
    scale = torch.tensor(0.01, device="cuda")
    layer = torch.nn.Linear(40, 8, device="cuda")
    rounding = InputRounding(kind="nvfp4", input_scale=scale, smoothing=None, like=layer.weight)
    assert torch.equal(rounding.apply(values), fake_quantize_nvfp4(values, scale))
