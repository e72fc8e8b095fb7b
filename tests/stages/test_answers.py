"""The answers that a draft learns from: one artifact for every training that wants the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.training_jobs import AnswerPrompts, AnswersResult
from bwdeploy.stages.answers import REPORT, AnswersStage
from tests.pipeline.toy import HOST
from tests.stages.draft_jobs import ANSWERED, Answers, built, planned, recipe


@pytest.mark.parametrize(
    "sections",
    [
        {"speculative": {"draft": "hf://org/draft@0123456789abcdef0123456789abcdef01234567"}},
        {"speculative": {"method": "mtp"}},
        {"speculative": {}},
    ],
)
def test_only_a_draft_in_training_wants_answers(sections: dict[str, dict[str, object]]) -> None:
    assert AnswersStage().plan_step(recipe(**sections), HOST) is None


def trained(**training: Any) -> Any:
    return planned(AnswersStage(), recipe(speculative={"train": training})).params


def test_only_what_the_answers_depend_on_counts() -> None:
    other = trained(steps=7, ffn_width=64, learning_rate=1e-4, batch_size=8, draft_vocab=64, layers=2)
    assert trained() == other
    for changed in ({"prompts": 7}, {"temperature": 0.5}, {"seed": 1}, {"answer_tokens": 9}, {"seq_len": 99}):
        assert trained(**changed) != trained()


def test_prompts_count_by_their_content_and_reach_the_worker_with_their_path(tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("{}")
    wanted = recipe(
        quantize={"method": "qat", "format": "fp8"},
        speculative={"train": {"data": f"file://{prompts}", "prompts": 7}},
    )
    step = planned(AnswersStage(), wanted)
    assert (step.inputs, step.sources) == (("quantize",), {"prompts": prompts})
    assert step.params["training"]["data"] == "file://.jsonl"
    worker = Answers()
    out = built(AnswersStage(), wanted, tmp_path, worker, quantize=tmp_path / "checkpoint")
    (request,) = worker.asked
    assert isinstance(request, AnswerPrompts)
    assert (request.target, request.state) == (tmp_path / "checkpoint", tmp_path / "state")
    assert (request.training.prompts, request.training.data) == (7, f"file://{prompts}")
    assert AnswersResult.model_validate_json((out / REPORT).read_text()) == ANSWERED


def test_answers_without_their_file_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no material\.safetensors"):
        AnswersStage().verify(tmp_path)
