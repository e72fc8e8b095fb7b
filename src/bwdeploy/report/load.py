"""A load test as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.serving.load import LoadReport, Percentiles


def load_text(report: LoadReport) -> str:
    """Rates, then times as the clients saw them, then what failed."""
    rates = f"{report.responses_per_s:.1f} responses/s"
    if report.tokens_per_s is not None:
        rates = f"{report.tokens_per_s:.1f} tokens/s, {rates}"
    lines = [
        f"{report.requests} requests, {report.concurrency} at once, in {report.seconds:.1f} s: {rates}",
        _times("first token", report.first_token),
        _times("between tokens", report.inter_token)
        if report.inter_token is not None
        else _times("between responses", report.response_gap),
        *(f"failed: {failure}" for failure in report.failures),
    ]
    return "\n".join(lines)


def _times(name: str, times: Percentiles) -> str:
    return f"{name}: p50 {times.p50_ms:.0f} ms, p90 {times.p90_ms:.0f} ms, p99 {times.p99_ms:.0f} ms"
