"""The real quickstart model within a budget: `pytest -m slow`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.pipeline.jobs import AuditReport
from bwdeploy.recipe.schema import Calibration, Evaluation, FormatSearch
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny
from tests.worker.training.searches import search_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TEXT = Calibration(samples=8, seq_len=256, batch_size=4)


def perplexity(report: AuditReport) -> float:
    assert [finding for finding in report.findings if finding.severity != "info"] == []
    assert report.quantized_perplexity is not None
    return report.quantized_perplexity


def test_six_bits_well_spent_halve_what_nvfp4_loses(smollm: Path, tmp_path: Path) -> None:
    evaluation = Evaluation(samples=4, seq_len=256)
    quantize_tiny(smollm, tmp_path / "nvfp4", format="nvfp4", calibration=TEXT)
    nvfp4 = audit_tiny(tmp_path / "nvfp4", smollm, format="nvfp4", evaluation=evaluation)
    search = FormatSearch(effective_bits=6.0, score_batches=2)
    searched = search_tiny(smollm, tmp_path / "search", calibration=TEXT, search=search)
    mixed = audit_tiny(searched.out, smollm, evaluation=evaluation)
    assert mixed.bits_per_quantized_parameter is not None
    assert 5.8 < mixed.bits_per_quantized_parameter <= 6.05
    source = nvfp4.source_perplexity
    assert source is not None
    assert perplexity(mixed) - source < (perplexity(nvfp4) - source) / 2
