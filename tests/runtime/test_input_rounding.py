"""Inputs of quantized layers: smoothed, rounded as `formats` does, by a kernel only where there is one."""

from __future__ import annotations

import logging

import pytest
import torch

from bwdeploy_runtime.formats import Activation, fake_quantize_activation, fake_quantize_nvfp4
from bwdeploy_runtime.input_rounding import InputRounding, _nvfp4_on_gpu


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(32, 8)


@pytest.mark.parametrize("kind", ["none", "nvfp4", "fp8", "fp8_token", "mxfp4", "mxfp8"])
def test_the_layer_reads_the_smoothed_input_as_it_is_rounded(
    kind: Activation, layer: torch.nn.Linear
) -> None:
    values, smoothing = torch.randn(3, 32), torch.linspace(0.5, 2, 32)
    scale = torch.tensor(0.01)
    plain = layer(fake_quantize_activation(values * smoothing, kind, scale))
    InputRounding(kind=kind, input_scale=scale, smoothing=smoothing, like=layer.weight).attach(layer)
    assert torch.equal(layer(values), plain)


def test_an_input_that_comes_rounded_is_left_as_it_is(layer: torch.nn.Linear) -> None:
    values = torch.randn(3, 32)
    plain = layer(values)
    rounding = InputRounding(kind="nvfp4", input_scale=None, smoothing=None, like=layer.weight)
    rounding.attach(layer)
    assert not torch.equal(layer(values), plain)
    rounding.remove()
    rounding.remove()
    assert torch.equal(layer(values), plain)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu/test_nvfp4_rounding.py has the kernel")
def test_without_what_the_kernel_needs_the_functions_round(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _nvfp4_on_gpu.__wrapped__() is fake_quantize_nvfp4
    (said,) = caplog.messages
    assert said.startswith("inputs are rounded to NVFP4 without the kernel for it, which takes longer: ")
