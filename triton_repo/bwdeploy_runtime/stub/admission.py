"""Who may go to the engine now, who waits, who is refused. Not thread-safe: `link` holds the lock."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bwdeploy_runtime.errors import UnavailableError

if TYPE_CHECKING:
    from bwdeploy_runtime.protocol import Delta


class Sink(Protocol):
    """Where the answer to a request goes. The last call is a delta with `finish`, or an error."""

    def on_delta(self, delta: Delta) -> None:
        """New text."""
        ...

    def on_error(self, code: str, message: str) -> None:
        """No (more) answer; code is invalid, internal or unavailable."""
        ...


@dataclass(frozen=True)
class Ticket:
    """One request under way."""

    id: str
    frame: bytes
    sink: Sink


class Admission:
    """At most `max_running` requests in the engine and `max_queued` behind them."""

    def __init__(self, *, max_running: int, max_queued: int) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._running: dict[str, Ticket] = {}
        self._queue: OrderedDict[str, Ticket] = OrderedDict()

    @property
    def running(self) -> int:
        """Requests in the engine."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Requests waiting for a place in the engine."""
        return len(self._queue)

    def admit(self, ticket: Ticket) -> bool:
        """Take a request; whether it may go to the engine now.

        Raises:
            UnavailableError: engine and queue are full.
        """
        if self.running < self._max_running:
            self._running[ticket.id] = ticket
            return True
        if self.queued >= self._max_queued:
            raise UnavailableError(
                f"the server is full: {self.running} requests run and {self.queued} wait (serve.max_running, "
                "serve.max_queued). Try again later."
            )
        self._queue[ticket.id] = ticket
        return False

    def find(self, request_id: str) -> Ticket | None:
        """The request in the engine with that id."""
        return self._running.get(request_id)

    def finish(self, request_id: str) -> Ticket | None:
        """Free a place; the request that takes it."""
        if self._running.pop(request_id, None) is None or not self._queue:
            return None
        _, ticket = self._queue.popitem(last=False)
        self._running[ticket.id] = ticket
        return ticket

    def withdraw(self, request_id: str) -> Ticket | None:
        """Take a waiting request out of the queue."""
        return self._queue.pop(request_id, None)

    def drain(self) -> list[Ticket]:
        """Take everything out."""
        tickets = [*self._running.values(), *self._queue.values()]
        self._running.clear()
        self._queue.clear()
        return tickets
