"""A measured draft: what the length follows from, and what stops a build."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.training_jobs import MeasureDraft
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.acceptance import (
    AcceptanceStage,
    broken_limits,
    chosen_length,
    chosen_schedule,
    measures,
    read_acceptance,
)
from tests.pipeline.toy import HOST
from tests.stages.draft_jobs import Answers, acceptance, built, planned, recipe, write_files

AUTO = {"train": {}, "draft_len": "auto"}


def drafted(place: Path) -> Path:
    (place / "draft").mkdir(exist_ok=True)
    write_files(place / "draft" / "files")
    return place / "draft"


@pytest.mark.parametrize(
    ("speculative", "measured"),
    [
        ({"train": {}}, False),
        ({"train": {}, "measure": {}}, True),
        (AUTO, True),
        ({"method": "mtp", "measure": {}}, True),
        ({"method": "mtp"}, False),
        ({"draft_len": "auto"}, False),
    ],
)
def test_a_draft_is_measured_when_the_recipe_asks(speculative: dict[str, Any], *, measured: bool) -> None:
    wanted = recipe(speculative=speculative)
    assert measures(wanted) is measured
    assert (AcceptanceStage().plan_step(wanted, HOST) is not None) is measured


def test_the_measurement_runs_on_checkpoint_and_draft(tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("{}")
    measure = {"prompts": f"file://{prompts}", "max_draft_len": 3}
    wanted = recipe(speculative={"train": {}, "measure": measure})
    answers = Answers()
    inputs = {"source": tmp_path / "model", "draft": drafted(tmp_path)}
    out = built(AcceptanceStage(), wanted, tmp_path, answers, **inputs)
    (request,) = answers.asked
    assert isinstance(request, MeasureDraft)
    assert (request.target, request.draft) == (tmp_path / "model", tmp_path / "draft/files")
    assert request.measurement.prompts == f"file://{prompts}"
    step = planned(AcceptanceStage(), wanted)
    assert (step.inputs, step.sources) == (("source", "draft"), {"prompts": prompts})
    assert read_acceptance(out) == answers.measured


def test_prediction_layers_of_the_model_need_no_draft(tmp_path: Path) -> None:
    answers = Answers()
    wanted = recipe(speculative={"method": "mtp", "measure": {}})
    built(AcceptanceStage(), wanted, tmp_path, answers, source=tmp_path / "model")
    assert answers.asked[0].draft is None


def test_the_length_that_pays_is_chosen_and_shrinks_with_the_batch(tmp_path: Path) -> None:
    answers = Answers(measured=acceptance(1.7, 2.2, 2.5))
    out = built(
        AcceptanceStage(), recipe(speculative=AUTO), tmp_path, answers,
        source=tmp_path, draft=drafted(tmp_path),
    )  # fmt: skip
    # 2.5 / 11.9 ms beats 2.2 / 11.3 and 1.7 / 10.6; at 32 a drafted token costs 4.5 ms, and one pays most.
    assert chosen_length(out) == 3
    schedule = chosen_schedule(out)
    assert schedule[1] == 3
    assert list(schedule.values()) == sorted(schedule.values(), reverse=True)
    assert schedule[max(schedule)] < 3
    assert json.loads((out / "choice.json").read_text())["draft_len"] == 3


def test_times_that_allow_no_choice_are_an_error_with_what_to_do(tmp_path: Path) -> None:
    measured = acceptance(1.7, steps={1: 11.0}).model_copy(update={"timings": ()})
    with pytest.raises(ToolError, match="no choice of a draft length") as caught:
        built(
            AcceptanceStage(), recipe(speculative=AUTO), tmp_path, Answers(measured=measured),
            source=tmp_path, draft=drafted(tmp_path),
        )  # fmt: skip
    assert "speculative.draft_len" in caught.value.hint


def limited(draft_len: object, limit: float | None, **gate: Any) -> Recipe:
    return recipe(
        speculative={"train": {}, "measure": {}, "draft_len": draft_len},
        gate={"min_acceptance_length": limit, **gate},
    )


@pytest.mark.parametrize(
    ("wanted", "spread", "words"),
    [
        (limited(3, None), 0.1, ""),
        (limited(3, 2.4), 0.05, ""),
        (
            limited(3, 2.7),
            0.1,
            "2.50 tokens gained in a step that drafts 3 (95 % interval 2.40 to 2.60), below",
        ),
        (limited(1, 2.0), 0.1, "1.70 tokens gained in a step that drafts 1"),
        (limited("auto", 2.3), 0.05, "2.20 tokens gained in a step that drafts 2"),
        (limited(3, 2.55), 0.1, ""),
        (limited(3, 2.55, inconclusive="fail"), 0.1, "not surely above gate.min_acceptance_length 2.55"),
    ],
)
def test_the_limit_holds_at_the_length_that_is_served(wanted: Recipe, spread: float, words: str) -> None:
    lines = list(broken_limits(wanted, acceptance(1.7, 2.2, 2.5, spread=spread), 2))
    assert [words in line for line in lines] == ([True] if words else [])


def test_a_dead_draft_stops_the_build_with_likely_causes(tmp_path: Path) -> None:
    answers = Answers(measured=acceptance(1.03, 1.04, 1.04, spread=0.02))
    wanted = recipe(speculative={"train": {}, "measure": {}})
    out = built(
        AcceptanceStage(), wanted, tmp_path, answers, source=tmp_path, draft=drafted(tmp_path)
    )  # fmt: skip
    with pytest.raises(GateError, match="next to nothing is accepted") as caught:
        AcceptanceStage().judge(wanted, out)
    assert "chat template" in caught.value.hint


def test_a_draft_that_never_pays_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = acceptance(1.5, 1.8, steps={1: 30.0, 2: 50.0})
    wanted = recipe(speculative=AUTO)
    out = built(
        AcceptanceStage(), wanted, tmp_path, Answers(measured=slow),
        source=tmp_path, draft=drafted(tmp_path),
    )  # fmt: skip
    assert chosen_length(out) == 0
    with caplog.at_level(logging.WARNING):
        AcceptanceStage().judge(wanted, out)
    assert "no draft length is faster than none" in caplog.text
