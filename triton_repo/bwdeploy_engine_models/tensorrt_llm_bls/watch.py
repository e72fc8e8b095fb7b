"""Hands a client's cancellation on to the engine.

Triton tells it to this model only, and the engine goes on: a thread asks each running request (an exchange
with the server, so not for every token) and stops the engine's one.
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
        """It ended."""
        with self._lock:
            self._running.pop(request_id, None)

    def close(self) -> None:
        """End the thread."""
        self._leaving.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._leaving.wait(self._period_s):
            with self._lock:
                running = list(self._running.items())
            for request_id, request in running:
                if request.is_cancelled():
                    self.remove(request_id)  # once is enough
                    self._stop(request_id)
