from __future__ import annotations

import pytest

from bwdeploy.kernels.goals import CHAIN, COPY, NCCL, ONE_SHOT, WITHOUT_PDL, verdicts
from bwdeploy.kernels.measured import Figure


def figure(microseconds: float, *, variant: str = "fp8 static", rows: int = 8, **fields: object) -> Figure:
    content = {"variant": variant, "rows": rows, "width": 7168, "microseconds": microseconds}
    return Figure.model_validate({**content, "p10": microseconds, "p90": microseconds, **fields})


def met(one: Figure) -> dict[str, bool]:
    return {verdict.against: verdict.met for verdict in verdicts(one)}


def test_a_point_must_be_faster_than_every_baseline_but_its_own_launch_without_pdl() -> None:
    baselines = {"torch.compile": 3.0, "FlashInfer": 2.0, WITHOUT_PDL: 1.0}
    assert met(figure(2.5, baselines=baselines)) == {"torch.compile": True, "FlashInfer": False}


def test_a_tie_is_no_win() -> None:
    assert met(figure(2.0, baselines={"FlashInfer": 2.0})) == {"FlashInfer": False}


@pytest.mark.parametrize(("microseconds", "wins"), [(8.0, True), (8.1, False)])
def test_a_chain_takes_at_most_eighty_percent_of_itself_without_pdl(
    *, microseconds: float, wins: bool
) -> None:
    assert met(figure(microseconds, variant=f"{CHAIN}: norms", baselines={WITHOUT_PDL: 10.0})) == {
        WITHOUT_PDL: wins
    }


@pytest.mark.parametrize(("share", "wins"), [(0.92, True), (0.919, False)])
def test_the_copy_bandwidth_is_reached_from_ninety_two_percent_on(*, share: float, wins: bool) -> None:
    assert met(figure(9.0, copy_share=share)) == {COPY: wins}


@pytest.mark.parametrize(
    ("rows", "microseconds", "wanted"),
    [
        (16, 6.0, {NCCL: True, ONE_SHOT: True}),
        (16, 6.1, {NCCL: False, ONE_SHOT: True}),
        (128, 20.0, {}),
        (1024, 12.0, {NCCL: True}),
        (1024, 12.1, {NCCL: False}),
    ],
)
def test_an_all_reduce_is_judged_by_latency_for_few_rows_and_by_throughput_for_many(
    rows: int, microseconds: float, wanted: dict[str, bool]
) -> None:
    assert met(figure(microseconds, rows=rows, baselines={NCCL: 12.0, ONE_SHOT: 8.0})) == wanted
