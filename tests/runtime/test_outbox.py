from __future__ import annotations

import pytest

from bwdeploy_runtime.protocol import Delta
from bwdeploy_runtime.worker.outbox import Outbox


@pytest.fixture
def outbox() -> Outbox:
    box = Outbox(flush_tokens=4, flush_interval_s=1.0)
    box.open("a", stream=True)
    return box


def add(box: Outbox, text: str, now_s: float, request_id: str = "a") -> list[Delta]:
    box.add(request_id, text, tokens=1, logprob=-1.0)
    return box.take(now_s)


def test_the_first_text_leaves_at_once(outbox: Outbox) -> None:
    assert [delta.text for delta in add(outbox, "one", 0.0)] == ["one"]


def test_tokens_without_text_make_no_response(outbox: Outbox) -> None:
    assert add(outbox, "", 0.0) == []
    assert add(outbox, "one", 0.1) == [Delta("a", "one", 2, logprob=-1.0)]


def test_then_text_waits_for_enough_tokens(outbox: Outbox) -> None:
    add(outbox, "0", 0.0)
    assert [add(outbox, text, 0.1) for text in "123"] == [[], [], []]
    assert add(outbox, "4", 0.1) == [Delta("a", "1234", 4, logprob=-1.0)]


def test_or_until_the_last_response_is_old_enough(outbox: Outbox) -> None:
    add(outbox, "0", 0.0)
    add(outbox, "1", 0.9)
    assert outbox.next_due_s() == 1.0
    assert outbox.take(0.99) == []
    assert [delta.text for delta in outbox.take(1.0)] == ["1"]
    assert outbox.next_due_s() is None


def test_a_slow_answer_is_not_delayed(outbox: Outbox) -> None:
    add(outbox, "0", 0.0)
    assert [delta.text for delta in add(outbox, "1", 5.0)] == ["1"]


def test_an_answer_that_is_not_streamed_leaves_whole(outbox: Outbox) -> None:
    outbox.open("b", stream=False)
    for text in "0123456789":
        assert add(outbox, text, 9.0, "b") == []
    assert outbox.next_due_s() is None
    outbox.close("b", finish="length", stop_reason=None, metrics={"x": 1})
    assert outbox.take(9.0) == [Delta("b", "0123456789", 10, "length", None, -1.0, {"x": 1})]


def test_the_rest_leaves_with_the_reason_of_the_end(outbox: Outbox) -> None:
    add(outbox, "0", 0.0)
    add(outbox, "1", 0.1)
    outbox.close("a", finish="stop", stop_reason="END", metrics={})
    assert outbox.take(0.1) == [Delta("a", "1", 1, "stop", "END", -1.0)]


def test_an_answer_of_one_token_is_one_response(outbox: Outbox) -> None:
    outbox.add("a", "only", tokens=1, logprob=None)
    outbox.close("a", finish="stop", stop_reason=None, metrics={})
    assert [(delta.text, delta.finish) for delta in outbox.take(0.0)] == [("only", "stop")]


def test_answers_do_not_mix(outbox: Outbox) -> None:
    outbox.open("b", stream=True)
    add(outbox, "a0", 0.0)
    assert [(delta.id, delta.text) for delta in add(outbox, "b0", 0.1, "b")] == [("b", "b0")]


def test_a_dropped_answer_leaves_nothing(outbox: Outbox) -> None:
    add(outbox, "0", 0.0)
    outbox.add("a", "1", tokens=1, logprob=None)
    outbox.drop("a")
    assert outbox.take(9.0) == []
