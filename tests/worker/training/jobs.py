"""Requests for small trainings of the tiny model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.training_jobs import QuantizeTrained, TrainedResult
from bwdeploy.recipe.schema import Training
from bwdeploy.worker.training import run
from tests.worker.jobs_in_process import ignore_progress, quantize_fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Progress

SHORT: dict[str, Any] = {
    "samples": 24,
    "seq_len": 64,
    "validation_samples": 4,
    "steps": 12,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "evaluate_every": 4,
}


def training_request(
    source: Path, place: Path, *, training: dict[str, Any], **changes: Any
) -> QuantizeTrained:
    """A short QAD to NVFP4 with output and state in `place`; `training` and `changes` differ from it."""
    fields = quantize_fields(source, place / "out") | {
        "state": place / "state",
        "method": "qad",
        "format": "nvfp4",
        "training": Training(**SHORT | training),
    }
    for name in ("out", "state"):
        (place / name).mkdir(parents=True, exist_ok=True)
    return QuantizeTrained(**fields | changes)


def train_tiny(
    source: Path,
    place: Path,
    *,
    training: dict[str, Any] | None = None,
    report: Callable[[Progress], None] = ignore_progress,
    **changes: Any,
) -> TrainedResult:
    """Train in this process."""
    return run.run(training_request(source, place, training=training or {}, **changes), report)
