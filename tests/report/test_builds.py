"""What a person reads after a build."""

from __future__ import annotations

from bwdeploy.pipeline.jobs import AuditFinding
from bwdeploy.report.builds import audit_lines
from tests.stages.test_gate import report


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


def test_audit_without_a_source_says_nothing_of_perplexity() -> None:
    assert "perplexity" not in audit_lines(report(source_perplexity=None))[0]
