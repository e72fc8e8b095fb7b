"""The engine loop: commands in, engine steps, events out. One thread; knows nothing of sockets."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from bwdeploy_runtime.engines.base import Request
from bwdeploy_runtime.errors import InvalidRequestError
from bwdeploy_runtime.protocol import Cancel, Generate, RequestFailed
from bwdeploy_runtime.sampling import SamplingParams
from bwdeploy_runtime.worker.answers import Answer
from bwdeploy_runtime.worker.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.engines.base import Engine, Tokens
    from bwdeploy_runtime.protocol import Command, ErrorCode, Event

_LOG = logging.getLogger(__name__)


class EngineLoop:
    """Drives one engine until a Shutdown command."""

    def __init__(
        self, engine: Engine, config: EngineConfig, *, send: Callable[[Sequence[Event]], None]
    ) -> None:
        self._engine = engine
        self._config = config
        self._send = send
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._answers: dict[str, Answer] = {}
        self._outbox = Outbox(
            flush_tokens=config.flush_tokens, flush_interval_s=config.flush_interval_ms / 1000
        )
        self._failures: list[Event] = []
        self._stopping = False
        self.steps = 0
        """Steps that brought something: stands still when the engine hangs."""

    @property
    def running(self) -> int:
        """Answers under way."""
        return len(self._answers)

    def wake(self) -> None:
        """Look again now; from any thread."""
        self._wake.set()

    def post(self, command: Command) -> None:
        """Hand a command over; from any thread."""
        self._commands.put(command)
        self._wake.set()

    def run(self) -> None:
        """Work until Shutdown. An exception of the engine's step ends the loop: the process starts anew."""
        while not self._stopping:
            self._wake.clear()
            self._take_commands()
            events = self._engine.step()
            if events:
                self.steps += 1
            for event in events:
                self._handle(event)
            self._flush()
            if not events and not self._stopping:
                self._wait()

    def _take_commands(self) -> None:
        while not self._commands.empty():
            command = self._commands.get()
            if isinstance(command, Generate):
                self._begin(command)
            elif isinstance(command, Cancel):
                self._cancel(command.id)
            else:
                self._stopping = True

    def _begin(self, command: Generate) -> None:
        try:
            sampling = SamplingParams.parse(command.sampling, max_tokens_limit=self._config.max_output_tokens)
            self._engine.submit(Request(command.id, command.prompt, sampling))
        except InvalidRequestError as error:
            self._fail(command.id, "invalid", str(error))
        except Exception as error:  # noqa: BLE001 - see below
            # One request that breaks the tokenizer or its chat template must not end the others.
            _LOG.exception("request %s could not be taken", command.id)
            self._fail(command.id, "internal", f"the request could not be taken: {error!r}")
        else:
            self._answers[command.id] = Answer(
                self._engine.detokenizer(),
                sampling,
                arrival_ns=command.arrival_ns,
                scheduled_ns=time.monotonic_ns(),
            )
            self._outbox.open(command.id, stream=command.stream)

    def _cancel(self, request_id: str) -> None:
        self._engine.cancel(request_id)
        answer = self._answers.get(request_id)
        if answer is not None:
            self._emit(request_id, answer, answer.abandon(), tokens=0)
            self._close(request_id, answer, finish="cancelled", stop_reason=None)

    def _handle(self, event: Tokens | RequestFailed) -> None:
        answer = self._answers.get(event.id)
        if answer is None:
            return  # cancelled or stopped while the engine was still at it
        if isinstance(event, RequestFailed):
            self._fail(event.id, event.code, event.message)
            return
        piece = answer.push(event, now_ns=time.monotonic_ns())
        self._emit(event.id, answer, piece.text, tokens=len(event.tokens))
        if piece.finish is not None:
            if event.finish is None:  # a stop string: the engine does not know yet
                self._engine.cancel(event.id)
            self._close(event.id, answer, finish=piece.finish, stop_reason=piece.stop_reason)

    def _emit(self, request_id: str, answer: Answer, text: str, *, tokens: int) -> None:
        self._outbox.add(request_id, text, tokens=tokens, logprob=answer.logprob)

    def _close(self, request_id: str, answer: Answer, *, finish: str, stop_reason: str | None) -> None:
        del self._answers[request_id]
        self._outbox.close(request_id, finish=finish, stop_reason=stop_reason, metrics=answer.metrics)

    def _fail(self, request_id: str, code: ErrorCode, message: str) -> None:
        self._answers.pop(request_id, None)
        self._outbox.drop(request_id)
        self._failures.append(RequestFailed(id=request_id, code=code, message=message))

    def _flush(self) -> None:
        events = [*self._outbox.take(time.monotonic()), *self._failures]
        self._failures.clear()
        if events:
            self._send(events)

    def _wait(self) -> None:
        due_s = self._outbox.next_due_s()
        pauses = [self._engine.pause_s(), None if due_s is None else max(0.0, due_s - time.monotonic())]
        self._wake.wait(min((pause for pause in pauses if pause is not None), default=None))
