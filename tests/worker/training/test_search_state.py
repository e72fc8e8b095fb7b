from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bwdeploy.pipeline.training_jobs import LayerSensitivity, QuantizeTrained
from bwdeploy.recipe.schema import Calibration, FormatSearch
from bwdeploy.worker.training.search_state import SearchOutcome, keep_outcome, kept_outcome

if TYPE_CHECKING:
    from pathlib import Path

OUTCOME = SearchOutcome(
    effective_bits=5.5,
    sensitivity=(
        LayerSensitivity(
            modules=("a",), chosen="fp8", scores={"fp8": 1e-7, "none": 0.0}, bits={"fp8": 8.0, "none": 16.0}
        ),
    ),
    unquantized=("lm_head",),
    seconds={"search": 1.25},
)


@pytest.fixture
def request_in(tmp_path: Path) -> QuantizeTrained:
    return QuantizeTrained(
        source=tmp_path,
        out=tmp_path / "out",
        format=None,
        recipe=None,
        kv_cache="none",
        overrides=(),
        calibration=Calibration(),
        device="cpu",
        trust_remote_code=False,
        method="auto",
        search=FormatSearch(),
        state=tmp_path,
    )


def test_outcome_comes_back_for_the_same_request(request_in: QuantizeTrained, tmp_path: Path) -> None:
    assert kept_outcome(request_in) is None
    keep_outcome(request_in, OUTCOME)
    assert kept_outcome(request_in) == OUTCOME
    assert kept_outcome(request_in.model_copy(update={"out": tmp_path / "elsewhere"})) == OUTCOME
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]


def test_outcome_of_another_request_is_not_used(request_in: QuantizeTrained) -> None:
    keep_outcome(request_in, OUTCOME)
    tighter = request_in.model_copy(update={"search": FormatSearch(effective_bits=5.0)})
    assert kept_outcome(tighter) is None


@pytest.mark.parametrize("text", ["", "{", '{"digest": "x", "outcome": {}}', "[]"])
def test_damaged_state_counts_as_none(text: str, request_in: QuantizeTrained, tmp_path: Path) -> None:
    keep_outcome(request_in, OUTCOME)
    (tmp_path / "search.json").write_text(text)
    assert kept_outcome(request_in) is None
