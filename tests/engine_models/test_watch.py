"""A request that has ended is never asked whether its client left: the real server dies of that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bwdeploy_engine_models.tensorrt_llm_bls.steps import EndedIterators
from bwdeploy_engine_models.tensorrt_llm_bls.watch import CancellationWatch


class Request:
    """Answers when it is told to."""

    def __init__(self, *, cancelled: bool = False) -> None:
        self.cancelled = cancelled
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.times = 0

    def is_cancelled(self) -> bool:
        self.times += 1
        self.asked.set()
        assert self.answer.wait(5)
        return self.cancelled


@pytest.fixture
def stopped() -> list[str]:
    return []


@pytest.fixture
def watch(stopped: list[str]) -> Iterator[CancellationWatch]:
    watch = CancellationWatch(stopped.append, period_s=0.001)
    yield watch
    watch.close()


def test_a_request_does_not_end_while_it_is_asked(watch: CancellationWatch) -> None:
    request = Request()
    watch.add("one", request)
    assert request.asked.wait(5)
    removing = threading.Thread(target=watch.remove, args=("one",))
    removing.start()
    removing.join(0.05)
    assert removing.is_alive()
    request.answer.set()
    removing.join(5)
    times = request.times
    time.sleep(0.02)
    assert request.times == times


def test_a_cancelled_request_is_stopped_once(watch: CancellationWatch, stopped: list[str]) -> None:
    request = Request(cancelled=True)
    request.answer.set()
    watch.add("one", request)
    time.sleep(0.05)
    assert (stopped, request.times) == (["one"], 1)


def test_ended_iterators_are_held_for_a_while_and_not_for_ever() -> None:
    ended = EndedIterators(keep_s=0.02)
    for _ in range(3):
        ended.keep(object())
    assert len(ended) == 3
    time.sleep(0.03)
    ended.keep(object())
    assert len(ended) == 1
