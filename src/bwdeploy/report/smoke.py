"""A smoke test as text: a line for each check, then the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.serving.smoke_report import SmokeCheck, SmokeReport


def check_line(check: SmokeCheck) -> str:
    """One check."""
    word = "skip" if check.skipped else "ok" if check.ok else "FAIL"
    return f"{word:<5} {check.id}: {check.detail}"


def report_text(report: SmokeReport) -> str:
    """The answers and the verdict."""
    answers = [f"> {answer.prompt}\n{answer.text}" for answer in report.answers]
    held = sum(check.ok and not check.skipped for check in report.checks)
    verdict = "passed" if report.ok else "failed"
    return "\n".join([*answers, f"{report.model}: {verdict}, {held} checks held in {report.seconds:.1f} s"])
