"""Draft trainings on a tiny random model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.training_jobs import DraftTrainingResult, TrainDraft
from bwdeploy.recipe.schema import DraftTraining
from bwdeploy.worker.drafts import train
from tests.worker.jobs_in_process import ignore_progress

if TYPE_CHECKING:
    from collections.abc import Callable
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


def request(target: Path, place: Path, *, device: Device = "cpu", **changes: Any) -> TrainDraft:
    """A request that writes below `place`: draft into `out`, state into `state`."""
    for name in ("out", "state"):
        (place / name).mkdir(parents=True, exist_ok=True)
    return TrainDraft(
        target=target,
        out=place / "out",
        training=training(**changes),
        device=device,
        trust_remote_code=False,
        state=place / "state",
    )


def train_tiny(
    target: Path, place: Path, report: Callable[[Progress], None] = ignore_progress, **changes: Any
) -> DraftTrainingResult:
    """Train in this process."""
    return train.run(request(target, place, **changes), report)


def write_lines(path: Path, *rows: Any) -> str:
    """A JSON lines file; its URI."""
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return f"file://{path}"
