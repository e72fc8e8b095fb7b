"""What the references of the add_rmsnorm_quant ops compute, and that their meta functions tell its shapes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from bwdeploy_kernels.rounding import quantize_nvfp4, swizzle, token_scales, unswizzle
from tests.plugins.reference_files import load_reference

_FP8 = load_reference("add_rmsnorm_quant_fp8")
_NVFP4 = load_reference("add_rmsnorm_quant_nvfp4")
_EPS = 1e-6
_TYPES = (torch.bfloat16, torch.float16)


def _inputs(rows: int, hidden: int, dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows * 1000 + hidden)
    x, residual = (torch.randn(rows, hidden, generator=generator).to(dtype) for _ in range(2))
    return x, residual, (torch.rand(hidden, generator=generator) + 0.5).to(dtype)


def _fp8(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, **options: Any) -> Any:
    scale = options.pop("scale", None)
    return _FP8.add_rmsnorm_quant_fp8(x, residual, weight, scale, _EPS, return_normed=True, **options)


@pytest.mark.parametrize("dtype", [*_TYPES, torch.float32])
def test_eager_rounding_is_the_norm_of_a_hugging_face_model(dtype: torch.dtype) -> None:
    x, residual, weight = _inputs(19, 80, dtype)
    norm = LlamaRMSNorm(80, eps=_EPS).to(dtype)
    norm.weight.data = weight
    _, residual_out, _, normed = _fp8(x, residual, weight, eager_rounding=True)
    assert torch.equal(residual_out, x + residual)
    assert torch.equal(normed, norm(x + residual))


@pytest.mark.parametrize("dtype", _TYPES)
def test_one_rounding_is_the_exact_norm_rounded_once(dtype: torch.dtype) -> None:
    x, residual, weight = _inputs(19, 1008, dtype)
    _, residual_out, _, normed = _fp8(x, residual, weight)
    exact = residual_out.double()
    exact = exact * (exact.pow(2).mean(-1, keepdim=True) + _EPS).rsqrt() * weight.double()
    off = normed != exact.to(dtype)  # float32 may land on the other side of a rounding boundary, rarely
    assert off.float().mean() < 1e-3
    assert torch.allclose(normed.double(), exact, rtol=2**-7 if dtype is torch.bfloat16 else 2**-10)
    assert not torch.equal(normed, _fp8(x, residual, weight, eager_rounding=True)[3])


def test_given_scale_divides_and_returns_no_scale() -> None:
    x, residual, weight = _inputs(5, 64)
    scale = torch.tensor([0.0123])
    out, _, scale_out, normed = _fp8(x, residual, weight, scale=scale)
    assert torch.equal(out.float(), (normed.float() / scale).to(torch.float8_e4m3fn).float())
    assert scale_out.shape == (0,)


def test_token_scales_come_from_the_rounded_values() -> None:
    x, residual, weight = _inputs(5, 64)
    for eager in (False, True):
        out, _, scale_out, normed = _fp8(x, residual, weight, eager_rounding=eager)
        assert torch.equal(scale_out, token_scales(normed))
        assert out.float().abs().amax(-1).tolist() == [448.0] * 5


def test_nvfp4_quantizes_the_rounded_values_in_either_layout() -> None:
    x, residual, weight = _inputs(19, 80)
    scale = torch.tensor([1e-3])
    for swizzled, eager in itertools.product((False, True), repeat=2):
        out, scales, _, normed = _NVFP4.add_rmsnorm_quant_nvfp4(
            x, residual, weight, scale, _EPS, swizzled=swizzled, eager_rounding=eager, return_normed=True
        )
        packed, linear = quantize_nvfp4(normed, scale)
        assert torch.equal(out, packed)
        got = unswizzle(scales, 19, 5) if swizzled else scales
        assert torch.equal(got.view(torch.uint8), linear.view(torch.uint8))
        assert scales.shape == (swizzle(linear) if swizzled else linear).shape


def test_rows_that_overflow_vanish_and_nan_and_infinity_stay_in_their_rows() -> None:
    x, residual, weight = _inputs(5, 64)
    weight[:] = 2.0
    x[0], residual[0] = 3e38, 0.0
    x[1, 3], x[2, 5] = float("inf"), float("nan")
    x[3], residual[3] = 0.0, 0.0
    out, _, scale_out, normed = _fp8(x, residual, weight)
    assert normed[0].eq(0).all()
    assert out[0].float().eq(0).all()
    assert normed[1].isnan().nonzero().tolist() == [[3]]
    assert normed[2].isnan().all()
    assert normed[3].eq(0).all()
    assert scale_out[0] == scale_out[3] == token_scales(torch.zeros(1, 1))
    assert scale_out[4] > scale_out[3]
    assert scale_out[1:3].isnan().all()


def test_the_functional_ops_leave_their_inputs_and_the_others_update_the_residual() -> None:
    x, residual, weight = _inputs(3, 32)
    before = x.clone(), residual.clone(), weight.clone()
    one = torch.ones(1)
    for reference, name in ((_FP8, "add_rmsnorm_quant_fp8"), (_NVFP4, "add_rmsnorm_quant_nvfp4")):
        functional = getattr(reference, name)(x, residual, weight, one, _EPS)
        assert all(torch.equal(*pair) for pair in zip((x, residual, weight), before, strict=True))
        updated = residual.clone()
        in_place = getattr(reference, f"{name}_")(x, updated, weight, one, _EPS)
        assert torch.equal(updated, before[0] + before[1])
        assert torch.equal(in_place[0].view(torch.uint8), functional[0].view(torch.uint8))


@pytest.mark.parametrize("rows", [0, 1, 129])
def test_meta_functions_tell_the_shapes_types_and_strides_of_the_references(rows: int) -> None:
    x, residual, weight = _inputs(rows, 80)
    one = torch.ones(1)
    for normed, eager in itertools.product((False, True), repeat=2):
        options = {"return_normed": normed, "eager_rounding": eager}
        for scale in (None, one):
            _same(_FP8, "add_rmsnorm_quant_fp8", (x, residual, weight, scale), options)
        for swizzled in (False, True):
            arguments = (x, residual, weight, one)
            _same(_NVFP4, "add_rmsnorm_quant_nvfp4", arguments, {"swizzled": swizzled, **options})


def _same(
    reference: Any,
    name: str,
    arguments: tuple[torch.Tensor | None, ...],
    options: dict[str, bool],
) -> None:
    for form in (name, f"{name}_"):
        wanted = getattr(reference, form)(*arguments, _EPS, **options)
        on_meta = [None if tensor is None else tensor.to("meta") for tensor in arguments]
        got = getattr(reference, f"{form}_meta")(*on_meta, _EPS, **options)
        for one, other in zip(got, wanted, strict=True):
            assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())
