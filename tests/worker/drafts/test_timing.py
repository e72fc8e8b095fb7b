from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from bwdeploy.worker.drafts.timing import Graphs, median_ms


def test_median_is_of_single_calls_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = seconds_of_calls()
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    works = (lambda: calls.append("plain"), lambda: calls.append("drafted"))
    assert median_ms(works, torch.device("cpu")) == pytest.approx([2.0, 5.0])
    assert calls == ["plain", "drafted"] * 23


def seconds_of_calls() -> Iterator[float]:
    """Before and after each call: two and five milliseconds in turn, but for one call of a second."""
    now = 0.0
    for number in range(46):
        yield now
        now += 1.0 if number == 20 else (0.002, 0.005)[number % 2]
        yield now


def test_step_that_cannot_be_captured_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    graphs = Graphs(torch.device("cuda"))
    assert graphs.used

    def step() -> torch.Tensor:
        raise NotImplementedError("waits for the device\nin the middle")

    with caplog.at_level(logging.WARNING):
        assert graphs.captured(step) is step
    assert "steps run without CUDA graphs" in caplog.text
    assert not graphs.used
    assert graphs.captured(step) is step


def test_cpu_has_no_graphs() -> None:
    graphs = Graphs(torch.device("cpu"))

    def step() -> torch.Tensor:
        raise AssertionError("not to be run")

    assert graphs.captured(step) is step
