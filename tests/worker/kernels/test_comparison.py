"""The judges of `kernels test`: what they let pass, and that they see what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bwdeploy.worker.kernels.cases import Case, cases_of
from bwdeploy.worker.kernels.comparison import difference
from bwdeploy.worker.kernels.exactness import formula_difference
from bwdeploy.worker.kernels.inputs import make_call
from bwdeploy.worker.kernels.outputs import compared_part, linear_scales


def e4m3(*codes: int) -> Any:
    return torch.tensor(codes, dtype=torch.uint8).view(torch.float8_e4m3fn)


def judged(name: str, got: Any, wanted: Any) -> str:
    return difference(name, got, wanted, eager_rounding=False)


def test_equal_outputs_pass_and_both_nans_are_the_same() -> None:
    assert judged("out", e4m3(0x38, 0x7F, 0x80), e4m3(0x38, 0xFF, 0x00)) == ""


def test_a_few_neighboring_codes_pass_and_many_do_not() -> None:
    wanted = e4m3(*[0x38] * 1000)
    few, many = ([0x39] * count + [0x38] * (1000 - count) for count in (5, 6))
    assert judged("out", e4m3(*few), wanted) == ""
    assert "6 of 1000 differ (at most 5 may)" in judged("out", e4m3(*many), wanted)


def test_a_code_two_steps_away_fails_and_so_does_a_lost_nan() -> None:
    wanted = [0x38] * 1000
    assert "by 2 steps (at most 1), at (0,)" in judged("out", e4m3(0x3A, *wanted[1:]), e4m3(*wanted))
    assert judged("out", e4m3(0x7E), e4m3(0x7F)) != ""


def test_zero_has_one_neighbor_on_either_side() -> None:
    assert judged("out", e4m3(0x81, 0x01), e4m3(0x00, 0x80)) == ""
    assert judged("out", e4m3(0x81), e4m3(0x01)) != ""


def test_swapped_nibbles_fail() -> None:
    wanted = torch.tensor([0x17] * 100, dtype=torch.uint8)
    assert judged("out", torch.tensor([0x71] * 100, dtype=torch.uint8), wanted) != ""


def test_a_residual_must_agree_everywhere() -> None:
    wanted = torch.tensor([1.0, float("nan"), 3.0], dtype=torch.bfloat16)
    got = torch.tensor([1.0, float("nan"), 3.015625], dtype=torch.bfloat16)
    assert judged("residual_out", wanted, wanted) == ""
    assert "1 differ, first at (2,)" in judged("residual_out", got, wanted)


def test_a_scale_of_a_finite_row_may_be_off_by_one_rounding() -> None:
    wanted = torch.tensor([1.0, float("inf")])
    assert judged("scale_out", torch.tensor([1.007, 5.0]), wanted) == ""
    assert "first in row 0" in judged("scale_out", torch.tensor([1.009, 5.0]), wanted)


def test_another_shape_or_type_fails() -> None:
    assert "got ((2,)" in judged("normed", torch.zeros(2), torch.zeros(3))
    assert "float16" in judged("normed", torch.zeros(2, dtype=torch.float16), torch.zeros(2))


def test_rows_past_an_experts_count_are_not_looked_at() -> None:
    case = Case(op="silu_mul_quant_fp8", rows=3, width=16, scale="static", experts=2)
    call = make_call(case, "cpu")
    call.options["rows_per_expert"] = torch.tensor([1, 2], dtype=torch.int32)
    part = compared_part(case, call, {"out": torch.arange(6)[:, None], "scale_out": torch.empty(0)})
    assert part["out"].flatten().tolist() == [0, 3, 4]


def test_swizzled_scales_come_back_row_by_row() -> None:
    # Row r, column c of a tile lies at (r % 32) * 16 + (r // 32) * 4 + c.
    stored = torch.zeros(128, 4, dtype=torch.uint8)
    stored.view(-1)[(37 % 32) * 16 + (37 // 32) * 4 + 3] = 9
    linear = linear_scales(stored.view(torch.float8_e4m3fn)).view(torch.uint8)
    assert linear[37, 3] == 9
    assert int(linear.sum()) == 9


@pytest.mark.parametrize("op", ["add_rmsnorm_quant_fp8", "silu_mul_quant_fp8"])
@pytest.mark.parametrize("wrong", [False, True])
def test_the_float64_formula_judges_codes_and_scale(op: str, *, wrong: bool) -> None:
    case = Case(op=op, rows=5, width=32, scale="static")
    call = make_call(case, "cpu")
    if op.startswith("add_rmsnorm"):
        x, residual, weight, scale = (tensor.float() for tensor in call.arguments[:4])
        summed = x + residual
        exact = summed * torch.rsqrt(summed.pow(2).mean(-1, keepdim=True)) * weight
    else:
        gate, up, scale = (tensor.float() for tensor in call.arguments)
        exact = torch.nn.functional.silu(gate) * up
    out = (exact / scale * (1.1 if wrong else 1)).clamp(-448, 448).to(torch.float8_e4m3fn)
    said = formula_difference(case, call, {"out": out, "scale_out": torch.empty(0)})
    assert ("do not decode to the float64 formula" in said) == wrong


@pytest.mark.parametrize("op", ["add_rmsnorm_quant_nvfp4", "silu_mul_quant_fp8"])
def test_every_layout_value_and_rounding_is_compared(op: str) -> None:
    cases = cases_of(op, small=False)
    assert {case.rows for case in cases} >= {0, 1, 19, 111, 989}
    assert {case.filling for case in cases} == {
        "random", "strided", "not finite", "zero rows", "tiny", "large",
    }  # fmt: skip
    assert {(case.activation, case.eager_rounding) for case in cases} == {
        (activation, eager) for activation in ("bfloat16", "float16") for eager in (False, True)
    }
    assert {case.scale for case in cases} == (
        {"swizzled", "linear"} if op.endswith("nvfp4") else {"static", "dynamic"}
    )
    assert any(case.experts for case in cases) == op.startswith("silu_mul")
    assert len({case.name for case in cases}) == len(cases)


def test_inputs_of_a_case_are_the_same_each_time_and_strided_where_it_says_so() -> None:
    case = Case(op="add_rmsnorm_quant_fp8", rows=4, width=32, scale="static", filling="strided")
    first, second = make_call(case, "cpu"), make_call(case, "cpu")
    assert torch.equal(first.arguments[0], second.arguments[0])
    assert first.arguments[0].stride() == (96, 1) == first.copy().arguments[0].stride()
