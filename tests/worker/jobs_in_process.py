"""Run the worker's jobs in the test process, so that ModelOpt is imported once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.jobs import Audit, AuditReport, Progress, QuantizePtq, QuantizeResult
from bwdeploy.pipeline.training_jobs import AccuracyReport, CompareAccuracy
from bwdeploy.recipe.schema import Calibration, Evaluation
from bwdeploy.worker import audit, quantize
from bwdeploy.worker.accuracy import compare

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Calibration(samples=8, seq_len=64, batch_size=4)


def quantize_tiny(source: Path, out: Path, **changes: Any) -> QuantizeResult:
    """Quantize `source` into the new directory `out`; `changes` are fields of the request."""
    out.mkdir()
    return quantize.run(QuantizePtq(**quantize_fields(source, out) | changes), ignore_progress)


def quantize_fields(source: Path, out: Path) -> dict[str, Any]:
    """What every request to quantize has: no format yet, a small calibration, on the CPU."""
    return {
        "source": source,
        "out": out,
        "format": None,
        "recipe": None,
        "kv_cache": "none",
        "overrides": (),
        "calibration": SMALL,
        "device": "cpu",
        "trust_remote_code": False,
    }


def audit_tiny(checkpoint: Path, source: Path | None, **changes: Any) -> AuditReport:
    """Audit `checkpoint` against `source`."""
    fields: dict[str, Any] = {
        "checkpoint": checkpoint,
        "source": source,
        "format": None,
        "kv_cache": "none",
        "evaluation": Evaluation(samples=1, seq_len=32),
        "device": "cpu",
        "trust_remote_code": False,
    } | changes
    return audit.run(Audit(**fields), ignore_progress)


def compare_tiny(checkpoint: Path, source: Path, **changes: Any) -> AccuracyReport:
    """Compare `checkpoint` with `source` on text, and on tasks where `changes` names them."""
    fields: dict[str, Any] = {
        "checkpoint": checkpoint,
        "source": source,
        "evaluation": Evaluation(samples=4, seq_len=32),
        "tasks": (),
        "device": "cpu",
        "trust_remote_code": False,
    } | changes
    return compare.run(CompareAccuracy(**fields), ignore_progress)


def ignore_progress(_progress: Progress) -> None:
    """A progress callback that does nothing."""
