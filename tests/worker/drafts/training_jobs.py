"""Draft trainings on a tiny random model."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.pipeline.training_jobs import MATERIAL, AnswerPrompts, DraftTrainingResult, TrainDraft
from bwdeploy.recipe.schema import DraftTraining
from bwdeploy.worker.drafts import answering, train
from tests.worker.jobs_in_process import ignore_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Device, Progress

SMALL: dict[str, Any] = {
    "prompts": 30,
    "answers_per_prompt": 1,
    "answer_tokens": 16,
    "seq_len": 160,
    "steps": 10,
    "batch_size": 8,
    "evaluate_every": 5,
    "warmup_steps": 2,
    "learning_rate": 3e-3,
}


def training(**changes: Any) -> DraftTraining:
    """A training of a few steps."""
    return DraftTraining(**SMALL | changes)


def asked(target: Path, place: Path, *, device: Device = "cpu", **changes: Any) -> AnswerPrompts:
    """A request that writes below `place`: answers into `answers`, state into `asked`."""
    for name in ("answers", "asked"):
        (place / name).mkdir(parents=True, exist_ok=True)
    return AnswerPrompts(
        target=target,
        out=place / "answers",
        training=training(**changes),
        device=device,
        trust_remote_code=False,
        state=place / "asked",
    )


def request(target: Path, place: Path, *, device: Device = "cpu", **changes: Any) -> TrainDraft:
    """A request on the answers below `place`: draft into `out`, state into `state`."""
    for name in ("answers", "out", "state"):
        (place / name).mkdir(parents=True, exist_ok=True)
    return TrainDraft(
        target=target,
        answers=place / "answers",
        out=place / "out",
        training=training(**changes),
        device=device,
        trust_remote_code=False,
        state=place / "state",
    )


def answer_tiny(
    target: Path, place: Path, report: Callable[[Progress], None] = ignore_progress, **changes: Any
) -> None:
    """Answer in this process what is not answered yet."""
    if not (place / "answers" / MATERIAL).exists():
        answering.run(asked(target, place, **changes), report)


def train_tiny(
    target: Path, place: Path, report: Callable[[Progress], None] = ignore_progress, **changes: Any
) -> DraftTrainingResult:
    """Answer, then train in this process."""
    answer_tiny(target, place, report, **changes)
    return train.run(request(target, place, **changes), report)


@contextmanager
def refused(path: str, said: str) -> Iterator[None]:
    """What runs inside is refused at `speculative.train.PATH`, in these words."""
    with pytest.raises(RecipeError) as caught:
        yield
    (finding,) = caught.value.findings
    assert finding.path == f"speculative.train.{path}"
    assert said in finding.message


def write_lines(path: Path, *rows: Any) -> str:
    """A JSON lines file; its URI."""
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return f"file://{path}"


def write_chats(path: Path) -> str:
    """Thirty conversations with answers; their URI."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}?"},
                {"role": "assistant", "content": f"Answer {number}, and some more words."},
            ]
        }
        for number in range(30)
    ]
    return write_lines(path, *rows)
