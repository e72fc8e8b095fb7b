"""What a person reads after a build of its training and its draft."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.pipeline.jobs import QuantizeResult
from bwdeploy.pipeline.training_jobs import DraftAudit, TrainedResult, TrainingCurve
from bwdeploy.report.training import training_lines
from bwdeploy.stages.acceptance import MEASUREMENT
from bwdeploy.stages.answers import REPORT as ANSWERS
from bwdeploy.stages.draft import REPORT, DraftReport
from bwdeploy.stages.quantize import RESULT
from tests.report.drafts_measured import R1_LENGTHS, lengths, measured, timing, trained
from tests.stages.draft_jobs import ANSWERED

PLAIN = QuantizeResult(
    quant_algo="NVFP4",
    kv_cache_quant_algo=None,
    quantized_modules=1,
    calibration_tokens=8,
    seconds={},
    device="cpu",
    modelopt_version="1",
    torch_version="1",
    transformers_version="1",
    peak_memory_bytes=1,
)


def lines_of(place: Path, result: QuantizeResult) -> list[str]:
    (place / RESULT).write_text(result.model_dump_json())
    return list(training_lines("quantize", place))


def after_training(best_step: int) -> TrainedResult:
    curve = TrainingCurve(metric="perplexity", points=(), steps=40, best_step=best_step, stopped="patience")
    return TrainedResult(
        **PLAIN.model_dump(), curve=curve, perplexity_before=26.71, perplexity_exported=21.49
    )


def test_training_says_what_it_gained_and_which_step_was_kept(tmp_path: Path) -> None:
    (line,) = lines_of(tmp_path, after_training(30))
    assert line.startswith("training: perplexity 26.71 → 21.49 on the validation text; 40 steps")
    assert line.endswith("kept step 30")


def test_training_that_brought_nothing_is_told(tmp_path: Path) -> None:
    assert "no step was better" in lines_of(tmp_path, after_training(0))[1]


@pytest.mark.parametrize(("shift", "noted"), [(0.016, True), (0.004, False)])
def test_export_above_the_training_by_no_more_than_rounding_is_noted(
    shift: float, tmp_path: Path, *, noted: bool
) -> None:
    before = tuple(3.0 + 0.01 * n for n in range(24))
    pairs = {
        "likelihoods_trained": before,
        "likelihoods_exported": tuple(one + shift + 0.05 * (-1) ** n for n, one in enumerate(before)),
    }
    lines = lines_of(tmp_path, after_training(30).model_copy(update=pairs))
    assert len(lines) == 1 + noted
    if noted:
        assert "as exported the perplexity is +1.6% from the model in training" in lines[1]
        assert lines[1].endswith("The gate judges the files themselves.")


def test_search_says_its_bits(tmp_path: Path) -> None:
    result = TrainedResult(**PLAIN.model_dump(), effective_bits=5.917)
    assert lines_of(tmp_path, result) == ["search: 5.92 bits per searched weight"]


def test_calibration_alone_says_nothing(tmp_path: Path) -> None:
    assert lines_of(tmp_path, PLAIN) == []
    assert list(training_lines("engine", tmp_path)) == []


def test_answers_say_how_many_there_are(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).write_text(ANSWERED.model_dump_json())
    (line,) = training_lines("answers", tmp_path)
    assert line == "answers: 27 to train the draft on, 3 held out; 900 tokens"


def test_draft_says_what_is_accepted_and_which_length_was_chosen(tmp_path: Path) -> None:
    report = DraftReport(audit=DraftAudit(shape=None, findings=()), training=trained(64))
    (tmp_path / REPORT).write_text(report.model_dump_json())
    acceptance = measured(overall=lengths(R1_LENGTHS), timings=(timing(1),))
    (tmp_path / MEASUREMENT).write_text(acceptance.model_dump_json())
    (drafted,) = training_lines("draft", tmp_path)
    assert drafted.startswith("draft: acceptance length 2.10 on its validation prompts; 300 steps")
    accepted, chosen, ran = training_lines("acceptance", tmp_path)
    assert accepted.startswith("acceptance length by draft length: 1.92 at 1, 2.58 at 2")
    assert chosen.startswith("draft length 3: ")
    assert ran.startswith("real speculative decoding of one request was fastest with 3 drafted tokens")
