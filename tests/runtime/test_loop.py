from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.echo import EchoEngine
from tests.runtime.answering import Answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPT = "Grüße 👩‍👩‍👧‍👦 from 東京, END of it"


@pytest.fixture
def echo() -> Iterator[Callable[[EngineConfig], Answering]]:
    opened: list[Answering] = []

    def make(config: EngineConfig) -> Answering:
        engine = EchoEngine()
        answering = Answering(engine, config)
        engine.load(config, Path(), wake=answering.loop.wake)
        opened.append(answering.__enter__())
        return answering

    yield make
    for answering in opened:
        answering.__exit__()


def test_deltas_add_up_and_no_character_is_split(echo: Callable[[EngineConfig], Answering]) -> None:
    result = echo(EngineConfig(runtime="echo", flush_tokens=1)).ask(PROMPT, max_tokens=200)
    assert result.text == PROMPT
    assert result.tokens == len(PROMPT.encode())
    assert [len(delta.text) for delta in result.deltas[:-1]] == [1] * (len(PROMPT) - 1)
    assert result.last.finish == "stop"


def test_the_first_token_is_not_delayed_by_coalescing(echo: Callable[[EngineConfig], Answering]) -> None:
    config = EngineConfig(runtime="echo", flush_tokens=16, flush_interval_ms=10_000)
    result = echo(config).ask("x" * 100, max_tokens=100)
    assert [delta.tokens for delta in result.deltas] == [1, 16, 16, 16, 16, 16, 16, 3]


def test_a_slow_answer_flushes_by_time(echo: Callable[[EngineConfig], Answering]) -> None:
    config = EngineConfig(runtime="echo", flush_tokens=1000, flush_interval_ms=20, echo_token_delay_ms=10)
    result = echo(config).ask("x" * 30, max_tokens=100)
    assert 5 < len(result.deltas) < 30


def test_one_delta_when_not_streamed(echo: Callable[[EngineConfig], Answering]) -> None:
    result = echo(EngineConfig(runtime="echo", flush_tokens=1)).ask(PROMPT, stream=False, max_tokens=200)
    assert [delta.text for delta in result.deltas] == [PROMPT]


def test_max_tokens_ends_an_answer(echo: Callable[[EngineConfig], Answering]) -> None:
    result = echo(EngineConfig(runtime="echo")).ask("hello", max_tokens=3)
    assert (result.text, result.last.finish, result.tokens) == ("hel", "length", 3)


def test_a_stop_string_ends_an_answer_and_is_not_in_it(echo: Callable[[EngineConfig], Answering]) -> None:
    answering = echo(EngineConfig(runtime="echo", flush_tokens=1))
    result = answering.ask(PROMPT, max_tokens=200, stop=["END", "nowhere"])
    assert result.text == PROMPT[: PROMPT.index("END")]
    assert (result.last.finish, result.last.stop_reason) == ("stop", "END")
    assert answering.loop.running == 0


def test_text_held_back_for_a_stop_string_comes_at_the_end(echo: Callable[[EngineConfig], Answering]) -> None:
    result = echo(EngineConfig(runtime="echo")).ask("this EN", max_tokens=200, stop=["END"])
    assert (result.text, result.last.stop_reason) == ("this EN", None)


def test_cancel_ends_an_answer_with_what_there_is(echo: Callable[[EngineConfig], Answering]) -> None:
    answering = echo(EngineConfig(runtime="echo", echo_token_delay_ms=20, flush_tokens=1))
    request_id = answering.begin("x" * 1000, max_tokens=1000)
    time.sleep(0.2)
    answering.cancel(request_id)
    result = answering.wait(request_id)
    assert result.last.finish == "cancelled"
    assert 0 < len(result.text) < 100
    assert answering.loop.running == 0


def test_cancelling_what_is_unknown_or_over_does_nothing(echo: Callable[[EngineConfig], Answering]) -> None:
    answering = echo(EngineConfig(runtime="echo"))
    answering.ask("x")
    answering.cancel("0")
    answering.cancel("nobody")
    assert answering.ask("y").text == "y"


def test_answers_run_at_once(echo: Callable[[EngineConfig], Answering]) -> None:
    answering = echo(EngineConfig(runtime="echo", echo_token_delay_ms=10))
    begun = time.monotonic()
    ids = [answering.begin(f"prompt {number}".ljust(20), max_tokens=20) for number in range(10)]
    assert [answering.wait(request_id).text.strip() for request_id in ids] == [
        f"prompt {n}" for n in range(10)
    ]
    assert time.monotonic() - begun < 10 * 20 * 0.010


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ("", {}, "text_input is empty"),
        ("x" * 100, {}, "more than max_input_len 50"),
        ("x", {"max_tokens": 5000}, "max_tokens is 5000, outside 1 to 4096."),
        ("x", {"colour": 1}, "unknown sampling parameter colour"),
    ],
)
def test_a_wrong_request_fails_alone(
    echo: Callable[[EngineConfig], Answering], prompt: str, sampling: dict[str, Any], message: str
) -> None:
    answering = echo(EngineConfig(runtime="echo", max_input_len=50))
    result = answering.ask(prompt, **sampling)
    assert result.error is not None
    assert result.error.code == "invalid"
    assert message in result.error.message
    assert answering.ask("x").text == "x"


def test_times_and_order_are_told_at_the_end(echo: Callable[[EngineConfig], Answering]) -> None:
    times = echo(EngineConfig(runtime="echo", echo_token_delay_ms=1)).ask("hello").last.metrics
    names = ["arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns"]
    assert [times[name] for name in names] == sorted(times.values())
    assert len(times) == 4
