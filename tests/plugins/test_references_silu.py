"""What the references of the silu_mul_quant ops compute, and that their meta functions tell its shapes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
from torch.nn import functional
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from bwdeploy_kernels.rounding import quantize_e4m3, swizzle, unswizzle
from tests.plugins.reference_files import load_reference

_FP8 = load_reference("silu_mul_quant_fp8").silu_mul_quant_fp8
_FP8_META = load_reference("silu_mul_quant_fp8").silu_mul_quant_fp8_meta
_NVFP4 = load_reference("silu_mul_quant_nvfp4").silu_mul_quant_nvfp4
_NVFP4_META = load_reference("silu_mul_quant_nvfp4").silu_mul_quant_nvfp4_meta
_TYPES = (torch.bfloat16, torch.float16)
_ONE = torch.ones(1)


def _halves(rows: int, width: int, dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor]:
    """The two halves of one [rows, 2 * width] matrix, as views."""
    generator = torch.Generator().manual_seed(rows * 1000 + width)
    fused = (torch.randn(rows, 2 * width, generator=generator) * 3).to(dtype)
    return fused[:, :width], fused[:, width:]


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8)


@pytest.mark.parametrize("dtype", [*_TYPES, torch.float32])
def test_eager_rounding_is_the_activation_of_a_hugging_face_model(dtype: torch.dtype) -> None:
    mlp = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=48, num_attention_heads=2)).to(dtype)
    hidden = torch.randn(19, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        gate, up = mlp.gate_proj(hidden), mlp.up_proj(hidden)
        out, _ = _FP8(gate, up, torch.tensor([0.25]), eager_rounding=True)
        mlp.down_proj = torch.nn.Identity()
        wanted = mlp(hidden)
    assert torch.equal(_bytes(out), _bytes(quantize_e4m3(wanted, torch.tensor([0.25]))))


@pytest.mark.parametrize("dtype", _TYPES)
def test_one_rounding_is_the_exact_product_rounded_once(dtype: torch.dtype) -> None:
    gate, up = _halves(19, 1008, dtype)
    exact = functional.silu(gate.double()) * up.double()
    # a scale per token lets the rounded product show: the row's amax is 448 times it
    _, scales = _FP8(gate, up, None)
    assert torch.allclose(scales.double() * 448, exact.to(dtype).double().abs().amax(-1), rtol=2**-22)
    wanted = quantize_e4m3(exact.to(dtype), _ONE)
    off = _bytes(_FP8(gate, up, _ONE)[0]) != _bytes(wanted)
    assert off.float().mean() < 1e-3  # float32 may land on the other side of a rounding boundary, rarely
    eager, _ = _FP8(gate, up, _ONE, eager_rounding=True)
    assert not torch.equal(_bytes(_FP8(gate, up, _ONE)[0]), _bytes(eager))


def test_nvfp4_is_what_modelopt_makes_of_the_product() -> None:
    gate, up = _halves(111, 208)
    product = functional.silu(gate) * up
    scale = product.float().abs().amax().reshape(1) / (6 * 448)
    out, scales = _NVFP4(gate, up, scale, swizzled=False, eager_rounding=True)
    quantized, block_scales, _ = NVFP4QTensor.quantize(product, 16, None, scale)
    assert torch.equal(out, quantized._quantized_data)
    assert torch.equal(_bytes(scales), _bytes(block_scales))


def test_swizzled_scales_are_the_linear_ones_in_tiles_with_zeros_around() -> None:
    gate, up = _halves(19, 80)
    _, linear = _NVFP4(gate, up, _ONE, swizzled=False)
    _, swizzled = _NVFP4(gate, up, _ONE)
    assert torch.equal(_bytes(swizzled), _bytes(swizzle(linear)))
    padded = unswizzle(swizzled, 128, 8).float()
    assert padded[:19, :5].gt(0).all()
    assert padded[19:].eq(0).all()
    assert padded[:, 5:].eq(0).all()


def test_experts_have_their_own_scale_and_rows_past_the_count_have_no_say() -> None:
    gate, up = (half.clone() for half in _halves(3 * 128, 32))
    counts = torch.tensor([128, 0, 5], dtype=torch.int32)
    scale = torch.tensor([0.5, 0.25, 2.0])
    clean = [_FP8(gate[e * 128 :][:n], up[e * 128 :][:n], scale[e : e + 1])[0] for e, n in enumerate(counts)]
    clean4 = [_NVFP4(gate[e * 128 :][:n], up[e * 128 :][:n], scale[e : e + 1]) for e, n in enumerate(counts)]
    gate[128:256] = gate[2 * 128 + 5 :] = float("nan")
    out, _ = _FP8(gate, up, scale, rows_per_expert=counts)
    out4, scales = _NVFP4(gate, up, scale, rows_per_expert=counts)
    _, tokens = _FP8(gate, up, None, rows_per_expert=counts)
    linear = unswizzle(scales, 3 * 128, 2)
    for expert, rows in enumerate(counts):
        real = slice(expert * 128, expert * 128 + int(rows))
        assert torch.equal(_bytes(out[real]), _bytes(clean[expert]))
        assert torch.equal(out4[real], clean4[expert][0])
        assert torch.equal(_bytes(linear[real]), _bytes(unswizzle(clean4[expert][1], int(rows), 2)))
    assert tokens.isfinite().all()


def test_overflowing_exponentials_give_a_signed_zero_and_nan_and_infinity_stay_in_their_elements() -> None:
    gate = torch.tensor([[-1e4, -100.0, 100.0, float("nan"), float("inf"), 0.0, -0.0, 3e38]]).bfloat16()
    up = torch.tensor([[2.0, -2.0, 2.0, 1.0, -1.0, 5.0, 5.0, 3e38]]).bfloat16()
    out, _ = _FP8(gate, up, _ONE)
    wanted = torch.tensor([[-0.0, 0.0, 192.0, float("nan"), -448.0, 0.0, -0.0, 448.0]])
    assert torch.equal(out.float().nan_to_num(7), wanted.nan_to_num(7))
    assert torch.equal(out.float().signbit()[:, [0, 1, 6]], wanted.signbit()[:, [0, 1, 6]])


@pytest.mark.parametrize("rows", [0, 1, 130])
def test_meta_functions_tell_the_shapes_and_types_of_the_references(rows: int) -> None:
    gate, up = _halves(rows, 80)
    for scale, eager in itertools.product((None, _ONE), (False, True)):
        _same(_FP8, _FP8_META, (gate, up, scale), {"eager_rounding": eager})
    for swizzled, eager in itertools.product((False, True), repeat=2):
        _same(_NVFP4, _NVFP4_META, (gate, up, _ONE), {"swizzled": swizzled, "eager_rounding": eager})


def _same(reference: Any, meta: Any, arguments: tuple[Any, ...], options: dict[str, bool]) -> None:
    wanted = reference(*arguments, **options)
    on_meta = [None if tensor is None else tensor.to("meta") for tensor in arguments]
    for one, other in zip(meta(*on_meta, **options), wanted, strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())
