from __future__ import annotations

import pytest

from bwdeploy_runtime.errors import UnavailableError
from bwdeploy_runtime.protocol import Delta
from bwdeploy_runtime.stub.admission import Admission, Ticket


class NoSink:
    def on_delta(self, delta: Delta) -> None:
        raise NotImplementedError

    def on_error(self, code: str, message: str) -> None:
        raise NotImplementedError


def ticket(request_id: str) -> Ticket:
    return Ticket(request_id, b"", NoSink())


@pytest.fixture
def full() -> Admission:
    admission = Admission(max_running=1, max_queued=2)
    assert [admission.admit(ticket(name)) for name in "abc"] == [True, False, False]
    return admission


def test_beyond_the_queue_a_request_is_refused(full: Admission) -> None:
    with pytest.raises(UnavailableError, match="1 requests run and 2 wait"):
        full.admit(ticket("d"))


def test_the_first_in_the_queue_takes_a_free_place(full: Admission) -> None:
    following = full.finish("a")
    assert following is not None
    assert following.id == "b"
    assert (full.running, full.queued) == (1, 1)


def test_finishing_an_unknown_request_frees_no_place(full: Admission) -> None:
    assert full.finish("x") is None
    assert (full.running, full.queued) == (1, 2)


def test_a_waiting_request_can_leave_the_queue(full: Admission) -> None:
    assert full.withdraw("b") is not None
    assert full.withdraw("a") is None  # it runs
    following = full.finish("a")
    assert following is not None
    assert following.id == "c"


def test_drain_takes_everything_out(full: Admission) -> None:
    assert [item.id for item in full.drain()] == ["a", "b", "c"]
    assert (full.running, full.queued) == (0, 0)
