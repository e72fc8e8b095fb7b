"""Builds whose figures are few, extreme or not numbers are reported all the same."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bwdeploy.accuracy.verdicts import judge_mean, judge_perplexity, judge_scores
from bwdeploy.pipeline.jobs import TensorError
from bwdeploy.pipeline.training_jobs import TrainingCurve, TrainingPoint
from bwdeploy.planner.speed.draft_choice import BatchTimes, choose
from bwdeploy.report.html.blocks import Note, Picture, Table
from bwdeploy.report.html.canvas import svg_of
from bwdeploy.report.html.sections.draft import draft_section
from bwdeploy.report.html.sections.gate import gate_section, in_limits
from bwdeploy.report.html.sections.quantization import quantization_section
from bwdeploy.report.html.sections.training import training_section
from bwdeploy.report.html.summary import cards_of
from bwdeploy.stages.gate_verdicts import JudgedFigure
from tests.report.html.sample import sample_acceptance, sample_audit, sample_quantized, sample_report


def pictures(section: Any) -> list[str]:
    """What is drawn of a section; drawing is the test."""
    drawn = [block for block in section.blocks if isinstance(block, Picture)]
    assert all("<svg" in svg_of(picture) for picture in drawn)
    return [picture.name for picture in drawn]


def curve(*points: TrainingPoint) -> TrainingCurve:
    return TrainingCurve(metric="perplexity", points=points, steps=1, best_step=0, stopped="steps")


def figure(judgement: Any) -> JudgedFigure:
    return JudgedFigure("x", "points", "gate.x", "", judgement)


def test_curve_of_one_point_or_of_none_that_is_a_number() -> None:
    one = sample_quantized(curve=curve(TrainingPoint(step=0, loss=1.0)))
    assert pictures(training_section(sample_report(quantized=one))) == ["training"]
    lost = sample_quantized(curve=curve(TrainingPoint(step=0, loss=math.nan, validation=math.inf)))
    assert pictures(training_section(sample_report(quantized=lost))) == []


def test_ptq_has_no_training_section() -> None:
    assert training_section(sample_report(quantized=sample_quantized(curve=None))) is None


def test_audit_of_an_older_version_shows_its_worst_tensors() -> None:
    section = quantization_section(sample_report(quantized=None, audit=sample_audit(tensor_errors=())))
    assert section is not None
    assert "Worst relative weight errors" in {getattr(block, "caption", "") for block in section.blocks}
    assert pictures(section) == []


def test_errors_that_are_all_alike_or_not_numbers() -> None:
    errors = (
        TensorError(name="model.layers.0.a.weight", relative_error=0.1),
        TensorError(name="model.layers.1.a.weight", relative_error=math.nan),
    )
    audit = sample_audit(tensor_errors=errors, quantized_perplexity=None, source_perplexity=None)
    data = sample_report(quantized=None, audit=audit)
    assert pictures(quantization_section(data)) == ["weight-errors"]
    assert "Perplexity" not in {card.what for card in cards_of(data)}


def test_sensitivity_without_any_damage_is_a_table() -> None:
    row = sample_quantized().sensitivity[0].model_copy(update={"scores": {"none": 0.0}, "chosen": "none"})
    section = quantization_section(sample_report(audit=None, quantized=sample_quantized(sensitivity=(row,))))
    assert pictures(section) == []


def test_draft_that_never_pays_is_told_as_such() -> None:
    lengths = {1: 1.05, 2: 1.06}
    choice = choose(lengths, [BatchTimes(1, {0: 10.0, 1: 12.0, 2: 14.0})])
    data = sample_report(choice=choice)
    section = draft_section(data)
    assert section is not None
    notes = [block.text for block in section.blocks if isinstance(block, Note)]
    assert any("does not pay" in note for note in notes)
    assert "nothing" in {card.value for card in cards_of(data)}
    assert "speed-by-batch" not in pictures(section)  # one batch size makes no line
    steps = next(block for block in section.blocks if isinstance(block, Table) and "Batch" in block.headings)
    assert dict(zip(steps.headings, steps.rows[0], strict=True))["Drafting 2 / target step"] == "15.2 %"


def test_measurement_without_sampled_workloads_or_timings() -> None:
    bare = sample_acceptance().model_copy(update={"workloads": (), "timings": (), "runs": ()})
    section = draft_section(sample_report(acceptance=bare, choice=None, draft_training=None))
    assert pictures(section) == ["acceptance"]


def test_verdict_without_bounds_stands_in_the_table_alone() -> None:
    few = figure(judge_mean((0.1,), limit=0.2, higher_is_better=False))
    section = gate_section(sample_report(judged=(few,)))
    assert pictures(section) == []


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (judge_scores((1.0, 0.0) * 50, (0.99, 0.0) * 50, margin=1.0, higher_is_better=True), 0.5),
        (judge_scores((1.0, 0.0) * 50, (1.01, 0.0) * 50, margin=1.0, higher_is_better=False), 0.5),
        (judge_mean((0.03, 0.05) * 20, limit=0.08, higher_is_better=False), 0.5),
        (judge_mean((0.94, 0.96) * 20, limit=0.9, higher_is_better=True), 0.5),
        (judge_perplexity((1.0, 2.0) * 20, (1.0, 2.0) * 20, max_increase=0.1), 0.0),
    ],
)
def test_every_kind_of_verdict_is_drawn_in_its_limit(judgement: Any, expected: float) -> None:
    row = in_limits(figure(judgement))
    assert row is not None
    assert row.value == pytest.approx(expected, abs=1e-6)
    assert row.low <= row.value <= row.high


def test_limit_that_allows_nothing_is_not_drawn() -> None:
    judged = judge_perplexity((1.0, 2.0) * 20, (1.1, 2.0) * 20, max_increase=0.0)
    assert in_limits(figure(judged)) is None
