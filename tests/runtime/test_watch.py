from __future__ import annotations

import pytest

from bwdeploy_runtime.stub.watch import ProgressWatch


@pytest.fixture
def watch() -> ProgressWatch:
    return ProgressWatch(stall_timeout_s=10.0, now_s=0.0)


def test_a_silent_engine_hangs_even_when_idle(watch: ProgressWatch) -> None:
    assert watch.verdict(running=0, now_s=10.0) is None
    assert watch.verdict(running=0, now_s=10.1) == "gave no sign of life for 10 s"


def test_heartbeats_without_steps_are_a_hang_only_with_requests(watch: ProgressWatch) -> None:
    for now_s in range(30):
        watch.sign(now_s)
        watch.steps(0, now_s)
        assert watch.verdict(running=0, now_s=now_s) is None
    watch.sign(40.0)
    assert watch.verdict(running=2, now_s=40.0) == "made no progress on 2 requests for 11 s"


def test_an_engine_silent_since_its_last_step_gave_no_sign_of_life(watch: ProgressWatch) -> None:
    watch.sign(5.0)
    watch.steps(1, 4.0)
    assert watch.verdict(running=1, now_s=14.0) is None
    assert watch.verdict(running=1, now_s=14.5) == "gave no sign of life for 10 s"


def test_an_engine_that_steps_does_not_hang(watch: ProgressWatch) -> None:
    for now_s in range(100):
        watch.sign(now_s)
        watch.steps(now_s // 5, now_s)
        assert watch.verdict(running=1, now_s=now_s) is None
