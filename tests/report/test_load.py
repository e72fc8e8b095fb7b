"""What a load test says to a person."""

from __future__ import annotations

from bwdeploy.report.load import load_text
from bwdeploy.serving.load import LoadReport, Percentiles


def test_rates_times_and_failures_are_said() -> None:
    times = Percentiles.of([0.1, 0.1])
    text = load_text(
        LoadReport(
            concurrency=2,
            requests=4,
            failures=("no answer in time",),
            seconds=2.0,
            tokens=40,
            responses=20,
            first_token=times,
            response_gap=times,
            inter_token=times,
            client_cpu_s=0.1,
        )
    )
    assert "20.0 tokens/s" in text
    assert "first token: p50 100 ms" in text
    assert "failed: no answer in time" in text
