"""Runs an engine inside the test process, through the same loop as the engine process does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from bwdeploy_runtime.protocol import Cancel, Delta, Generate, RequestFailed, Shutdown
from bwdeploy_runtime.worker.loop import EngineLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.engines.base import Engine
    from bwdeploy_runtime.protocol import Event

WAIT_S = 30.0


@dataclass
class Result:
    """What came back for one request."""

    deltas: list[Delta] = field(default_factory=list)
    error: RequestFailed | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def tokens(self) -> int:
        return sum(delta.tokens for delta in self.deltas)

    @property
    def last(self) -> Delta:
        return self.deltas[-1]


class Answering:
    """A running engine loop; a context manager."""

    def __init__(self, engine: Engine, config: EngineConfig) -> None:
        self.loop = EngineLoop(engine, config, send=self._receive)
        self._results: dict[str, Result] = {}
        self._thread = threading.Thread(target=self.loop.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.loop.post(Shutdown())
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def begin(self, prompt: str, *, stream: bool = True, **sampling: Any) -> str:
        request_id = str(len(self._results))
        self._results[request_id] = Result()
        self.loop.post(Generate(request_id, prompt, sampling, stream=stream, arrival_ns=0))
        return request_id

    def cancel(self, request_id: str) -> None:
        self.loop.post(Cancel(request_id))

    def peek(self, request_id: str) -> Result:
        return self._results[request_id]

    def wait(self, request_id: str) -> Result:
        result = self._results[request_id]
        assert result.ended.wait(WAIT_S)
        return result

    def ask(self, prompt: str, *, stream: bool = True, **sampling: Any) -> Result:
        return self.wait(self.begin(prompt, stream=stream, **sampling))

    def _receive(self, events: Sequence[Event]) -> None:
        for event in events:
            assert isinstance(event, Delta | RequestFailed)
            result = self._results[event.id]
            assert not result.ended.is_set(), "something came after the end"
            if isinstance(event, Delta):
                result.deltas.append(event)
            else:
                result.error = event
            if isinstance(event, RequestFailed) or event.finish:
                result.ended.set()
