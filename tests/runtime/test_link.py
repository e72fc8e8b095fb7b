"""The link and the real engine process, over the real socket; death and hang by real signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.errors import EngineError, UnavailableError
from bwdeploy_runtime.protocol import Delta, Generate
from bwdeploy_runtime.stub.link import EngineLink
from bwdeploy_runtime.stub.process import PYTHON_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_S = 20.0


class Answer:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.error: tuple[str, str] | None = None
        self.begun, self.ended = threading.Event(), threading.Event()

    def on_delta(self, delta: Delta) -> None:
        assert not self.ended.is_set()
        self.deltas.append(delta)
        self.begun.set()
        if delta.finish:
            self.ended.set()

    def on_error(self, code: str, message: str) -> None:
        assert not self.ended.is_set()
        self.error = (code, message)
        self.ended.set()

    def text(self) -> str:
        assert self.ended.wait(WAIT_S)
        return "".join(delta.text for delta in self.deltas)

    def finish(self) -> str | None:
        assert self.ended.wait(WAIT_S)
        return self.deltas[-1].finish


class Client:
    """Asks a link."""

    def __init__(self, link: EngineLink) -> None:
        self.link = link
        self._count = 0

    def ask(self, prompt: str, **sampling: Any) -> Answer:
        self._count += 1
        return self.ask_as(f"request-{self._count}", prompt, **sampling)

    def ask_as(self, request_id: str, prompt: str, **sampling: Any) -> Answer:
        answer = Answer()
        values = {"max_tokens": 4000} | sampling
        self.link.submit(
            Generate(request_id, prompt, values, stream=True, arrival_ns=time.monotonic_ns()), answer
        )
        return answer


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def opened(directory: Callable[[EngineConfig], Path], **settings: Any) -> Iterator[Client]:
    config = EngineConfig(runtime="echo", **settings)
    link = EngineLink(config, directory(config))
    link.start()
    try:
        yield Client(link)
    finally:
        link.close()


def engine_pid(client: Client) -> int:
    pid = client.link.engine_pid
    assert pid is not None
    return pid


def test_an_answer_comes_back_in_pieces(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory) as client:
        answer = client.ask("Grüße aus 東京 🌍 and from all over the world")
        assert answer.text() == "Grüße aus 東京 🌍 and from all over the world"
        assert len(answer.deltas) > 1
        assert answer.finish() == "stop"


def test_close_ends_the_process_and_leaves_nothing_behind(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    with opened(engine_directory) as client:
        pid, log = engine_pid(client), client.link.log
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 3
    assert not is_alive(pid)
    assert not log.parent.exists()


def test_the_socket_is_private(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory) as client:
        room = client.link.log.parent
        assert room.stat().st_mode & 0o777 == 0o700
        assert (room / "engine.sock").stat().st_mode & 0o777 == 0o600


def test_a_killed_engine_fails_every_request_and_is_started_again(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    with opened(engine_directory, echo_token_delay_ms=50, max_running=2) as client:
        answers = [client.ask("x" * 1000) for _ in range(3)]  # the third waits for a place
        assert answers[0].begun.wait(WAIT_S)
        killed = engine_pid(client)
        os.kill(killed, signal.SIGKILL)
        for answer in answers:
            answer.text()
            assert answer.error is not None
            code, message = answer.error
            assert code == "unavailable"
            assert "killed by signal 9 (SIGKILL)" in message
            assert str(client.link.log) in message
        with pytest.raises(UnavailableError, match=r"The engine is restarting\. .*SIGKILL"):
            client.ask("too early")
        wait_until(lambda: client.link.engine_pid is not None)
        assert client.link.restarts == 1
        assert engine_pid(client) != killed
        assert client.ask("hello").text() == "hello"
        log = client.link.log
    assert log.exists(), "the log of an engine that failed is kept"


def test_a_hung_engine_is_noticed_and_healed(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory, echo_token_delay_ms=20, stall_timeout_s=1.0) as client:
        answer = client.ask("x" * 1000)
        assert answer.begun.wait(WAIT_S)
        stopped = engine_pid(client)
        os.kill(stopped, signal.SIGSTOP)
        answer.text()
        assert answer.error is not None
        assert "gave no sign of life for 1 s" in answer.error[1]
        wait_until(lambda: client.link.engine_pid is not None)
        assert not is_alive(stopped)
        assert client.ask("ok").text() == "ok"


def test_an_idle_engine_is_not_taken_for_hung(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory, stall_timeout_s=0.5) as client:
        time.sleep(1.5)
        assert client.ask("still there").text() == "still there"
        assert client.link.restarts == 0


def test_a_slow_engine_is_not_taken_for_hung(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory, stall_timeout_s=0.8, echo_token_delay_ms=300) as client:
        assert client.ask("patience").text() == "patience"
        assert client.link.restarts == 0


def test_cancel_frees_the_place(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory, echo_token_delay_ms=50, max_running=1, max_queued=1) as client:
        first = client.ask_as("first", "x" * 1000)
        assert first.begun.wait(WAIT_S)
        second = client.ask_as("second", "y")
        client.link.cancel("first")
        assert first.finish() == "cancelled"
        assert second.text() == "y"


def test_a_waiting_request_can_be_cancelled(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory, echo_token_delay_ms=50, max_running=1) as client:
        client.ask_as("first", "x" * 1000)
        second = client.ask_as("second", "y")
        assert client.link.queued == 1
        client.link.cancel("second")
        assert (second.text(), second.finish(), client.link.queued) == ("", "cancelled", 0)


def test_beyond_the_queue_requests_are_refused(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory, echo_token_delay_ms=1, max_running=2, max_queued=3) as client:
        answers = [client.ask("x" * 200) for _ in range(5)]
        assert (client.link.running, client.link.queued) == (2, 3)
        with pytest.raises(UnavailableError, match="the server is full: 2 requests run and 3 wait"):
            client.ask("one too many")
        assert [len(answer.text()) for answer in answers] == [200] * 5
        assert client.ask("room again").text() == "room again"


def test_many_requests_with_long_prompts_arrive_whole(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    with opened(engine_directory, max_output_tokens=500_000) as client:
        prompts = [f"{number}:" + "z" * 200_000 for number in range(8)]
        answers = [client.ask(prompt, max_tokens=500) for prompt in prompts]
        assert [answer.text() for answer in answers] == [prompt[:500] for prompt in prompts]


def test_a_stopped_engine_does_not_block_whoever_asks(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    with opened(engine_directory, stall_timeout_s=1.0) as client:
        os.kill(engine_pid(client), signal.SIGSTOP)
        begun_s = time.monotonic()
        answers = [client.ask("z" * 1_000_000) for _ in range(4)]  # far more than the socket buffers hold
        assert time.monotonic() - begun_s < 1.0
        for answer in answers:
            answer.text()
            assert answer.error is not None


def test_requests_under_way_are_told_when_the_model_is_unloaded(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    with opened(engine_directory, echo_token_delay_ms=50) as client:
        answer = client.ask("x" * 1000)
    answer.text()
    assert answer.error is not None
    assert "told to leave" in answer.error[1]


def test_a_wrong_request_is_the_clients_fault(engine_directory: Callable[[EngineConfig], Path]) -> None:
    with opened(engine_directory) as client:
        answer = client.ask("x", max_tokens=100_000)
        answer.text()
        assert answer.error == ("invalid", "max_tokens is 100000, outside 1 to 4096.")
        assert client.link.running == 0


def test_an_engine_that_cannot_load_is_an_error_with_the_reason(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    config = EngineConfig(runtime="tensorrt_llm", llm_args="llm_args.yaml")
    link = EngineLink(config, engine_directory(config))
    with pytest.raises(
        EngineError, match=r"tensorrt_llm cannot be imported.*serve\.runtime: reference.*Log: /"
    ):
        link.start()
    link.close()


def test_a_python_that_is_not_there_is_named(
    engine_directory: Callable[[EngineConfig], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EngineConfig(runtime="echo")
    link = EngineLink(config, engine_directory(config))
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(EngineError, match="BWDEPLOY_ENGINE_PYTHON=/nowhere/python is not there"):
        link.start()
    link.close()


def test_a_process_that_dies_while_loading_shows_its_last_lines(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    config = EngineConfig(runtime="echo")
    directory = engine_directory(config)
    (directory / "bwdeploy_runtime").unlink()
    (directory / "bwdeploy_runtime").mkdir()
    (directory / "bwdeploy_runtime" / "__init__.py").write_text("raise RuntimeError('half copied')")
    link = EngineLink(config, directory)
    with pytest.raises(
        EngineError, match=r"ended with exit code 1 while loading: (.|\n)*RuntimeError: half copied"
    ):
        link.start()
    link.close()


def test_an_engine_that_takes_too_long_to_load_is_ended(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    config = EngineConfig(runtime="echo", startup_timeout_s=0.5)
    directory = engine_directory(config)
    (directory / "bwdeploy_runtime").unlink()
    (directory / "bwdeploy_runtime").mkdir()
    (directory / "bwdeploy_runtime" / "__init__.py").write_text("import time; time.sleep(60)")
    link = EngineLink(config, directory)
    with pytest.raises(EngineError, match=r"was not ready within startup_timeout_s, 0\.5 s"):
        link.start()
    link.close()


def test_the_engine_dies_with_the_process_that_started_it(
    engine_directory: Callable[[EngineConfig], Path],
) -> None:
    config = EngineConfig(runtime="echo")
    directory = engine_directory(config)
    read_end, write_end = os.pipe()
    owner = os.fork()
    if owner == 0:  # the test process's twin plays the stub; it is killed, so no clean-up of its runs
        link = EngineLink(config, directory)
        link.start()
        os.write(write_end, str(link.engine_pid).encode())
        signal.pause()
    pid = int(os.read(read_end, 20))
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    wait_until(lambda: not is_alive(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
