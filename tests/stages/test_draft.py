"""A draft is imported or trained, held against the checkpoint that will be served, refused with reasons."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bwdeploy.errors import GateError, HostError, ToolError
from bwdeploy.pipeline.jobs import AuditFinding, Download
from bwdeploy.pipeline.training_jobs import AuditDraft, TrainDraft
from bwdeploy.stages.draft import FILES, DraftStage, makes_draft, read_draft_report
from tests.pipeline.toy import HOST
from tests.stages.draft_jobs import Answers, built, planned, recipe, write_files

HUB = {"draft": "hf://org/draft@0123456789abcdef0123456789abcdef01234567"}
MISFIT = AuditFinding(
    check="draft-hidden-size",
    severity="error",
    message="the draft's hidden size is 128",
    hint="Trained for another model.",
)


@pytest.mark.parametrize(
    ("sections", "makes"),
    [
        ({"speculative": HUB}, True),
        ({"speculative": {"train": {}}}, True),
        ({"speculative": {"method": "mtp"}}, False),
        ({"speculative": {}}, False),
        ({"speculative": {"method": "eagle"} | HUB, "engine": {"backend": "tensorrt"}}, False),
    ],
)
def test_only_an_eagle3_draft_has_a_stage(sections: dict[str, dict[str, object]], *, makes: bool) -> None:
    wanted = recipe(**sections)
    assert makes_draft(wanted) is makes
    assert (DraftStage().plan_step(wanted, HOST) is not None) is makes


def test_a_draft_of_the_hub_is_downloaded_without_code_and_audited(tmp_path: Path) -> None:
    answers = Answers()
    out = built(DraftStage(), recipe(speculative=HUB), tmp_path, answers, source=tmp_path / "model")
    download, audit = answers.asked
    assert isinstance(download, Download)
    assert (download.repo, download.trust_remote_code) == ("org/draft", False)
    assert download.place == "speculative.draft"
    assert audit == AuditDraft(draft=out / FILES, target=tmp_path / "model")
    assert read_draft_report(out).training is None


def test_a_draft_on_this_machine_is_linked_and_its_content_counts(tmp_path: Path) -> None:
    files = write_files(tmp_path / "mine")
    (files / "modeling.py").write_text("raise SystemExit")
    wanted = recipe(speculative={"draft": f"file://{files}"})
    out = built(DraftStage(), wanted, tmp_path, Answers(), source=tmp_path / "model")
    assert {path.name for path in (out / FILES).iterdir()} == {"config.json", "model.safetensors"}
    assert (out / FILES / "config.json").samefile(files / "config.json")
    assert planned(DraftStage(), wanted).sources == {"draft": files}
    assert str(tmp_path) not in str(planned(DraftStage(), wanted).params)


def test_a_draft_that_is_not_there_is_named_before_anything_runs(tmp_path: Path) -> None:
    wanted = recipe(speculative={"draft": f"file://{tmp_path}/none"})
    with pytest.raises(HostError, match=r"speculative\.draft: .*/none does not exist"):
        planned(DraftStage(), wanted)


def test_a_trained_draft_keeps_its_state_and_its_curve(tmp_path: Path) -> None:
    wanted = recipe(
        quantize={"method": "qat", "format": "fp8"},
        speculative={"train": {"steps": 7, "hidden_layers": (1, 2, 3)}},
    )
    answers = Answers()
    inputs = {"quantize": tmp_path / "checkpoint", "answers": tmp_path / "given"}
    out = built(DraftStage(), wanted, tmp_path, answers, **inputs)
    request = answers.asked[0]
    assert isinstance(request, TrainDraft)
    assert (request.target, request.answers) == (tmp_path / "checkpoint", tmp_path / "given")
    assert (request.training.steps, request.state) == (7, tmp_path / "state")
    report = read_draft_report(out)
    assert report.training is not None
    assert report.training.acceptance_length == 2.1
    step = planned(DraftStage(), wanted)
    assert (step.inputs, step.sources) == (("quantize", "answers"), {})


def test_a_draft_that_does_not_fit_stops_the_build_with_the_likely_cause(tmp_path: Path) -> None:
    answers = Answers(findings=(MISFIT, MISFIT.model_copy(update={"severity": "warning"})))
    wanted = recipe(speculative=HUB)
    out = built(DraftStage(), wanted, tmp_path, answers, source=tmp_path / "model")
    with pytest.raises(GateError) as caught:
        DraftStage().judge(wanted, out)
    assert caught.value.message.count("hidden size is 128. Trained for another model.") == 1
    assert "speculative.train" in caught.value.hint


def test_warnings_of_the_audit_stop_nothing_and_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = Answers(findings=(MISFIT.model_copy(update={"severity": "warning"}),))
    wanted = recipe(speculative=HUB)
    out = built(DraftStage(), wanted, tmp_path, answers, source=tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        DraftStage().judge(wanted, out)
    assert "hidden size is 128. Trained for another model." in caplog.text


def test_a_draft_without_weights_is_not_published(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_files(out)
    (out / "draft.json").write_text("{}")
    with pytest.raises(ToolError, match=r"no files/config\.json and no files/\*\.safetensors"):
        DraftStage().verify(out)
