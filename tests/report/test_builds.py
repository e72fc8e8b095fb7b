"""What a person reads after a build."""

from __future__ import annotations

import json
from pathlib import Path

from bwdeploy.pipeline.jobs import AuditFinding
from bwdeploy.recipe.schema import Gate
from bwdeploy.report.builds import audit_lines, comparison_lines, gate_lines, verdicts_json
from bwdeploy.stages.gate import ACCURACY, REPORT
from tests.stages.test_gate import comparison, report


def test_audit_says_size_error_and_perplexity_in_one_line() -> None:
    (line,) = audit_lines(report())
    assert line.startswith("audit: 6.00 bits per parameter, largest weight error 0.100 (a.weight)")
    assert line.endswith("perplexity 20.00 → 24.00 (×1.20)")


def test_every_finding_of_the_audit_is_shown_with_its_tensor_and_hint() -> None:
    finding = AuditFinding(
        check="scale-zero", severity="warning", tensor="a.weight_scale", message="all zero", hint="Look."
    )
    assert audit_lines(report(findings=(finding,)))[1] == (
        "audit warning: scale-zero: a.weight_scale: all zero. Look."
    )


def test_audit_without_a_source_gives_the_perplexity_alone() -> None:
    (line,) = audit_lines(report(source_perplexity=None))
    assert line.endswith("perplexity 24.00, and no source to compare it with")
    assert "perplexity" not in audit_lines(report(source_perplexity=None, quantized_perplexity=None))[0]


def test_comparison_says_divergence_agreement_and_each_verdict() -> None:
    first, second = comparison_lines(comparison(), Gate(max_kl_divergence=0.2))
    assert first == (
        "compared: KL divergence 0.1 nats per token, top-1 agreement 80.0% on 16 sequences of held-out text"
    )
    assert second.startswith("gate pass: KL divergence: 0.1 nats per token (")


def test_inconclusive_verdict_says_how_many_samples_it_would_take() -> None:
    _, line = comparison_lines(comparison(spread=0.1), Gate(max_perplexity_increase=0.21))
    assert line.startswith("gate inconclusive: perplexity 20.00 → 24.00: +20.00%")
    assert line.endswith("samples like these would make it pass")


def test_gate_without_a_comparison_shows_the_audit_alone(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text(report().model_dump_json())
    assert gate_lines(tmp_path, Gate(max_kl_divergence=0.2)) == audit_lines(report())
    assert verdicts_json(tmp_path, Gate(max_kl_divergence=0.2)) == []


def test_verdicts_are_plain_data(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text(report().model_dump_json())
    (tmp_path / ACCURACY).write_text(comparison().model_dump_json())
    (verdict,) = json.loads(
        json.dumps(verdicts_json(tmp_path, Gate(min_top1_agreement=0.9)), allow_nan=False)
    )
    assert verdict["verdict"] == "fail"
    assert (verdict["figure"], verdict["limit_of"]) == ("top-1 agreement", "gate.min_top1_agreement")
    assert verdict["low"] < verdict["value"] < verdict["high"] < verdict["limit"] == 0.9
