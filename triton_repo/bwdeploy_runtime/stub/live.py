"""The requests that have not had their last response yet, by our id and by the client's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy_runtime.stub.exchange import Exchange


class LiveRequests:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: dict[str, Exchange] = {}
        self._by_client: dict[str, set[str]] = {}

    def add(self, request_id: str, client_id: str, exchange: Exchange) -> None:
        """A request has come; the client's id may be empty and need not be unique."""
        with self._lock:
            self._exchanges[request_id] = exchange
            if client_id:
                self._by_client.setdefault(client_id, set()).add(request_id)

    def remove(self, request_id: str, client_id: str) -> None:
        """A request has ended."""
        with self._lock:
            self._exchanges.pop(request_id, None)
            ids = self._by_client.get(client_id, set())
            ids.discard(request_id)
            if not ids:
                self._by_client.pop(client_id, None)

    def of_client(self, client_id: str) -> tuple[str, ...]:
        """Our ids of the requests that the client gave this id."""
        with self._lock:
            return tuple(self._by_client.get(client_id, ()))

    def cancelled_by_client(self) -> tuple[str, ...]:
        """Requests whose client has left. Asks the server once per request, each time."""
        with self._lock:
            exchanges = tuple(self._exchanges.items())
        return tuple(request_id for request_id, exchange in exchanges if exchange.client_left())
