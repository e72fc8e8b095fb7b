"""What is said of drafts: choices, measurements, trainings and widths, as text, JSON and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.errors import RecipeError, StoreError
from bwdeploy.pipeline.training_jobs import SpeculativeRun
from bwdeploy.planner.speed.draft_choice import BatchTimes, DraftChoice, choose, choose_by
from bwdeploy.planner.speed.steps import StepModel
from bwdeploy.report.draft_measurement import draft_share, measured_json, measured_text
from bwdeploy.report.draft_plot import write_draft_plot, write_sweep_plot
from bwdeploy.report.draft_sweep import SweptDraft, sweep_json, sweep_text
from bwdeploy.report.draft_training import training_json, training_text
from bwdeploy.report.drafts import choice_json, choice_text
from bwdeploy.stages.acceptance import choice_of
from tests.report.drafts_measured import R1_LENGTHS, lengths, measured, timing, trained

LENGTHS = dict(enumerate(R1_LENGTHS, start=1))


def swept(width: int, *, gain: float = 0.0, delta: float = 0.5, half: float = 0.02) -> SweptDraft:
    one = measured(
        overall=lengths(tuple(value + gain for value in R1_LENGTHS), half=half),
        timings=(timing(1, delta=delta),),
    )
    return SweptDraft(width, trained(width), one, choice_of(one))


def test_the_text_marks_the_chosen_length_and_says_what_it_gains() -> None:
    text = choice_text(choose_by(LENGTHS, StepModel(8.95, 0.751)))
    assert text.startswith("draft length 3: 2.25 times the speed without drafts")
    marked = [line.split() for line in text.splitlines() if "→" in line]
    assert marked == [["→", "3", "2.82", "11.20", "251.7", "2.25"]]
    assert "timings of several batch sizes would tell" in text


def test_the_text_says_from_which_batch_on_drafting_stops_paying() -> None:
    choice = choose_of_batches((1, 0.75), (64, 30.0))
    assert choice.stops_paying_at is not None
    assert f"drafting stops paying from batch size {choice.stops_paying_at} on" in one_line(
        choice_text(choice)
    )
    pays = choose_of_batches((1, 0.75), (64, 1.0))
    assert "drafting pays up to batch size 64, the largest that was timed" in one_line(choice_text(pays))


def test_drafting_that_never_pays_is_said_plainly() -> None:
    text = choice_text(choose_by({1: 1.2}, StepModel(10.0, 5.0)))
    assert text.startswith("draft length 0: drafting does not pay")
    assert "schedule: no drafts at any batch size" in text


def test_timings_off_their_line_and_a_best_length_at_the_end_are_noted() -> None:
    poor = choose(LENGTHS, [BatchTimes(1, {0: 10.0, 1: 10.0, 3: 10.0, 5: 16.0})])
    assert "off their line" in choice_text(poor)
    assert "a still longer one could be faster" in choice_text(choose_by(LENGTHS, StepModel(10.0, 0.0)))
    assert "note:" not in choice_text(choose_by(LENGTHS, StepModel(8.95, 0.751)))


def test_the_json_of_a_choice_has_the_promised_keys() -> None:
    shown = choice_json(choose_by(LENGTHS, StepModel(8.95, 0.751)))
    assert shown.keys() >= {"draft_len", "speedup", "t0", "delta", "draft_len_schedule"}
    assert shown["acceptance_length"] == list(R1_LENGTHS)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_a_measurement_shows_workloads_intervals_and_real_runs() -> None:
    one = measured()
    text = measured_text(one, choice_of(one))
    assert "EAGLE3 on NVIDIA H100 (bfloat16), 32 prompts, 63 s" in text
    assert "2.82 (2.72 to 2.92)" in text
    assert "code" in text
    assert "drafting 3 tokens takes 20% of a step" in text
    assert "fastest with 3 drafted tokens: 250 tokens/s, 2.27 times plain decoding (as predicted)" in text


def test_a_prediction_that_the_runs_contradict_is_not_hidden() -> None:
    one = measured(timings=(timing(1, delta=0.01),))
    assert (
        "fastest with 3 drafted tokens: 250 tokens/s, 2.27 times plain decoding (predicted was 5)"
        in measured_text(one, choice_of(one))
    )
    close = SpeculativeRun(draft_len=5, tokens_per_s=249.0, acceptance_length=3.0)
    one = one.model_copy(update={"runs": (*one.runs, close)})
    assert "(predicted was 5, 0.4% slower here)" in measured_text(one, choice_of(one))
    assert measured_json(one, choice_of(one), {})["speed_lost_in_runs"] == pytest.approx(0.004)


def test_runs_of_one_request_are_not_held_against_a_choice_for_many() -> None:
    one = measured(timings=(timing(8, delta=0.01), timing(32, delta=0.01)))
    text = measured_text(one, choice_of(one))
    assert "fastest with 3 drafted tokens: 250 tokens/s, 2.27 times plain decoding\n" in f"{text}\n"
    assert "predicted" not in text


def test_answers_that_left_plain_decoding_are_counted_as_answers() -> None:
    one = measured().model_copy(update={"greedy_differs": 2})
    assert "note: 2 answers of greedy speculative decoding" in measured_text(one, choice_of(one))


def test_the_json_of_a_measurement_has_all_of_it() -> None:
    one = measured()
    shown = measured_json(one, choice_of(one), {"max_draft_len": 3})
    assert shown["draft_len"] == shown["best_draft_len_measured"] == 3
    assert shown["speed_lost_in_runs"] == 0
    assert shown["speculative_config"] == {"max_draft_len": 3}
    assert shown["draft_share_of_step"]["1"]["3"] == pytest.approx(draft_share(one, 3), abs=1e-6)
    assert shown["measurement"] == one.model_dump(mode="json")
    json.dumps(shown, allow_nan=False)


def test_a_training_says_what_was_made_and_where_it_lies() -> None:
    text = training_text(trained(256), Path("store/files"))
    assert "FFN width 256, 128 of 300 tokens" in text
    assert "300 steps (all its steps, resumed at 100), kept step 250" in text
    assert "draft: store/files" in text
    assert training_json(trained(256), Path("store/files"))["training"]["acceptance_length"] == 2.1


def test_a_sweep_marks_the_fastest_width_and_weighs_acceptance_against_cost() -> None:
    drafts = [swept(256, delta=0.4), swept(512, gain=0.3, delta=0.5), swept(4096, gain=0.35, delta=1.5)]
    text = sweep_text(drafts)
    assert [line.split()[:2] for line in text.splitlines() if "→" in line] == [["→", "512"]]
    assert "fastest for one user: width 512" in text
    assert "more prompts" not in text
    shown = sweep_json(drafts)
    assert shown["best_ffn_width"] == 512
    assert [one["parameters"] for one in shown["drafts"]] == [256_000, 512_000, 4_096_000]
    json.dumps(shown, allow_nan=False)


def test_widths_that_the_prompts_cannot_tell_apart_are_named() -> None:
    text = sweep_text([swept(256, half=0.3), swept(512, gain=0.02, half=0.3)])
    assert "within the intervals of acceptance as fast: 256" in text


def test_pictures_are_drawn_whatever_the_names_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = measured(workloads=("code", "$x_{", "<b>"))
    file = tmp_path / "draft.svg"
    write_draft_plot(choice_of(one), file, title="a $ b_{", measured=one)
    assert file.stat().st_size > 5_000
    write_sweep_plot([swept(256), swept(512)], tmp_path / "sweep.svg", title="widths")
    assert (tmp_path / "sweep.svg").stat().st_size > 5_000


def test_a_picture_of_a_table_alone_needs_no_measurement(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "draft.svg"
    write_draft_plot(choose_by(LENGTHS, StepModel(8.95, 0.751)), file, title="R1")
    assert "<svg" in file.read_text()
    with pytest.raises(RecipeError, match="neither PNG nor SVG"):
        write_draft_plot(choose_by(LENGTHS, StepModel(8.95, 0.751)), tmp_path / "draft.pdf", title="R1")
    with pytest.raises(StoreError, match="no directory"):
        write_sweep_plot([swept(256)], tmp_path / "none" / "x.svg", title="widths")


def choose_of_batches(*batches: tuple[int, float]) -> DraftChoice:
    return choose(
        LENGTHS, [BatchTimes(size, {k: 10.0 + delta * k for k in range(6)}) for size, delta in batches]
    )


def one_line(text: str) -> str:
    return " ".join(text.split())
