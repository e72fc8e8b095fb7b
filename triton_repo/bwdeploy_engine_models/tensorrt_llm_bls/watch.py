"""Hands a client's cancellation on to the engine.

Triton tells it to this model only, and the engine goes on: a thread asks each running request (an exchange
with the server, so not for every token) and stops the engine's one. A request that has ended must not be
asked: the server looks into memory that it has freed, and dies. So asking and `remove` exclude each other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy_engine_models.triton_types import TritonRequest

_PERIOD_S = 0.1


class CancellationWatch:
    """Watches requests from `add` to `remove`."""

    def __init__(self, stop: Callable[[str], None], *, period_s: float = _PERIOD_S) -> None:
        self._stop = stop
        self._period_s = period_s
        self._running: dict[str, TritonRequest] = {}
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cancellation", daemon=True)
        self._thread.start()

    def add(self, request_id: str, request: TritonRequest) -> None:
        """Watch a request."""
        with self._lock:
            self._running[request_id] = request

    def remove(self, request_id: str) -> None:
        """It is about to end; on return nobody asks it any more."""
        with self._lock:
            self._running.pop(request_id, None)

    def close(self) -> None:
        """End the thread."""
        self._leaving.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._leaving.wait(self._period_s):
            for request_id in list(self._running):
                if self._is_cancelled(request_id):
                    self._stop(request_id)

    def _is_cancelled(self, request_id: str) -> bool:
        """Whether it is running and its client left; true only once."""
        with self._lock:
            request = self._running.get(request_id)
            if request is None or not request.is_cancelled():
                return False
            del self._running[request_id]
            return True
