"""The add_rmsnorm_quant kernels against float32 and float64 formulas, in every launch choice they have."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tests.gpu.kernels.norm_cases import (
    HIDDEN,
    ROWS,
    TYPES,
    Norm,
    assert_fp8,
    assert_normed,
    assert_nvfp4,
    norm_case,
)
from tests.gpu.kernels.norm_launches import Config, NormEntry, Outputs, Spread

pytestmark = pytest.mark.gpu

MODES = ("static", "per_token", "linear", "swizzled")
GIVEN = 2.7e-3


def check(mode: str, case: Norm, outputs: Outputs, *, eager: bool) -> None:
    given = torch.tensor([GIVEN], device="cuda")
    assert torch.equal(outputs.residual_out, case.x + case.residual)
    assert_normed(outputs.normed, outputs.residual_out, case.weight, eager=eager)
    quantization(mode, outputs, given)


def quantization(mode: str, outputs: Outputs, given: torch.Tensor) -> None:
    if mode in ("static", "per_token"):
        assert_fp8(outputs.codes, outputs.scales, outputs.normed, given if mode == "static" else None)
    else:
        assert_nvfp4(outputs.codes, outputs.scales, outputs.normed, given, swizzled=mode == "swizzled")


def launched(entry: NormEntry, case: Norm, config: Config | None = None, *, eager: bool = False) -> Outputs:
    outputs = entry.launch(case, torch.tensor([GIVEN], device="cuda"), config, eager=eager)
    assert outputs is not None
    return outputs


@pytest.mark.parametrize("rounding", ["once", "eager"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mode", MODES)
def test_chosen_launch_gives_the_bytes_of_the_formulas(
    mode: str, dtype: torch.dtype, rounding: str, built_pack: Path
) -> None:
    eager = rounding == "eager"
    entry = NormEntry(built_pack, mode, dtype)
    for rows, hidden in itertools.product(ROWS, HIDDEN):
        case = norm_case(rows, hidden, dtype)
        check(mode, case, launched(entry, case, eager=eager), eager=eager)


@pytest.mark.parametrize("rounding", ["once", "eager"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mode", MODES)
def test_every_launch_choice_gives_the_bytes_of_the_formulas(
    mode: str, dtype: torch.dtype, rounding: str, built_pack: Path
) -> None:
    eager = rounding == "eager"
    entry = NormEntry(built_pack, mode, dtype)
    given = torch.tensor([GIVEN], device="cuda")
    taken = set()
    for choice in itertools.product(Spread, (1, 2, 4), (1, 2, 4, 8)):
        for rows, hidden in ((1, 80), (19, 2048), (300, 1008), (130, 4976), (989, 2048)):
            case = norm_case(rows, hidden, dtype)
            outputs = entry.launch(case, given, Config(*choice), eager=eager)
            if outputs is not None:
                taken.add(choice)
                check(mode, case, outputs, eager=eager)
    alone = (Spread.FEW_ROWS, Spread.MANY_ROWS, Spread.LOOP)
    expected = {(spread, packs, 1) for spread in alone for packs in (1, 2, 4)}
    expected |= {(Spread.CLUSTER, packs, cluster) for packs in (1, 2, 4) for cluster in (2, 4, 8)}
    if mode == "per_token" and eager:
        expected.remove((Spread.LOOP, 4, 1))  # it has no registers for that
    assert taken == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [1, 19, 2112])
def test_rows_may_be_apart(mode: str, rows: int, built_pack: Path) -> None:
    entry = NormEntry(built_pack, mode, torch.bfloat16)
    for hidden in (80, 2048):
        case = norm_case(rows, hidden, torch.bfloat16, gap=24)
        check(mode, case, launched(entry, case), eager=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("magnitude", [1e-4, 1e-2, 1e3])
def test_small_and_large_values(mode: str, magnitude: float, built_pack: Path) -> None:
    for dtype in TYPES:
        entry = NormEntry(built_pack, mode, dtype)
        case = norm_case(19, 2048, dtype, magnitude=magnitude)
        check(mode, case, launched(entry, case), eager=False)


@pytest.mark.parametrize("rounding", ["once", "eager"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("rows", "hidden"), [(7, 80), (7, 7168), (7, 16384), (400, 7168), (2112, 2048)])
def test_nan_infinity_zeros_and_overflow_stay_in_their_rows(
    mode: str, rows: int, hidden: int, rounding: str, built_pack: Path
) -> None:
    eager = rounding == "eager"
    for dtype in TYPES:
        case = norm_case(rows, hidden, dtype)
        case.weight[5:9] = 4.0
        case.x[1, 3], case.residual[1, 3] = float("inf"), 1.0
        case.x[2, hidden - 1] = float("nan")
        case.x[3], case.residual[3] = 0.0, 0.0
        case.x[4], case.residual[4] = torch.finfo(dtype).max, 0.0
        case.x[5], case.residual[5] = torch.finfo(dtype).tiny, 0.0
        outputs = launched(NormEntry(built_pack, mode, dtype), case, eager=eager)
        special = [1, 2, 3, 4, 5]
        normed = outputs.normed
        assert normed[2].isnan().all()
        assert normed[3].eq(0).all()
        if dtype is torch.bfloat16:  # its largest value squared is beyond float32: rstd is 0
            assert normed[4].eq(0).all()
        assert normed[1].isnan().nonzero().flatten().tolist() == [3]
        assert normed[1].nan_to_num(0).eq(0).all()
        plain = [row for row in range(rows) if row not in special]
        assert_normed(normed[plain], outputs.residual_out[plain], case.weight, eager=eager)
        quantization(mode, outputs, torch.tensor([GIVEN], device="cuda"))


@pytest.mark.parametrize("mode", ["static", "linear", "swizzled"])
@pytest.mark.parametrize("given", [1e-44, 3e-30, 1e30, 0.0, float("inf"), float("nan")])
def test_any_given_scale_gives_the_bytes_of_division(mode: str, given: float, built_pack: Path) -> None:
    case = norm_case(19, 2048, torch.bfloat16)
    case.x[3, :64], case.residual[3, :64] = 0.0, 0.0
    scale = torch.tensor([given], device="cuda")
    outputs = NormEntry(built_pack, mode, torch.bfloat16).launch(case, scale, None)
    assert outputs is not None
    quantization(mode, outputs, scale)
