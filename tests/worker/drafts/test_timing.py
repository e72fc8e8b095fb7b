from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bwdeploy.pipeline.training_jobs import StepTiming
from bwdeploy.worker.drafts import timing
from bwdeploy.worker.drafts.pair import Acceptance
from bwdeploy.worker.drafts.timing import Graphs, median_ms, time_sizes


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


def test_memory_that_ends_during_a_capture_is_no_reason_to_go_on_without_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs = Graphs(torch.device("cuda"))

    def full(_work: object) -> object:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(timing, "CudaCapture", lambda: full)
    with pytest.raises(torch.OutOfMemoryError):
        graphs.captured(lambda: torch.zeros(1))
    assert graphs.used


def test_batch_sizes_beyond_the_memory_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def time_one(size: int) -> StepTiming:
        if size > 2:
            raise torch.OutOfMemoryError("no room")
        return StepTiming(batch_size=size, target_ms=2.0, draft_ms=0.1, step_ms={1: 2.2})

    with caplog.at_level(logging.WARNING):
        assert [one.batch_size for one in time_sizes([1, 2, 4, 8], time_one)] == [1, 2]
    assert "no memory for steps of batch size 4" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        time_sizes([4, 8], time_one)


def test_a_run_is_timed_up_to_the_step_that_ended_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    found = Acceptance([1, 2, 3, 4, 5], (1, 1, 0), (2, 2, 1))

    def run(_draft_len: int, *, after_step: Callable[[], None]) -> None:
        for _ in range(16):
            after_step()

    decoder: Any = SimpleNamespace(
        device=torch.device("cpu"), begin=lambda *_: None, run=run, results=lambda: [found]
    )
    assert timing._timed_run(decoder, (1, 2), 1) == (found, 3)


class Made(Exception):  # noqa: N818 - no error
    """A decoder was asked for."""


def test_steps_are_timed_with_the_buffers_of_the_real_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, int]] = []

    def decoder(_pair: object, **sizes: int) -> None:
        made.append(sizes)
        raise Made

    monkeypatch.setattr(timing, "RowDecoder", decoder)
    pair: Any = SimpleNamespace(target=SimpleNamespace(device=torch.device("cpu")))
    prompts, graphs = [(1, 2), (1, 2, 3, 4)], Graphs(torch.device("cpu"))
    with pytest.raises(Made):
        timing.time_steps(pair, prompts, batch_size=1, new_tokens=8, draft_len=1, graphs=graphs)
    with pytest.raises(Made):
        timing.time_runs(pair, prompts, new_tokens=8, draft_len=1, graphs=graphs)
    assert made == [{"rows": 1, "longest_prompt": 4, "new_tokens": 8, "draft_len": 1}] * 2


def test_cpu_has_no_graphs() -> None:
    graphs = Graphs(torch.device("cpu"))

    def step() -> torch.Tensor:
        raise AssertionError("not to be run")

    assert graphs.captured(step) is step
