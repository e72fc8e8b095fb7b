"""The Triton stub's link to its engine: requests in flight, admission, and an engine that is kept alive.

One supervisor thread runs one engine process after another (see `life`). When a process dies or hangs,
every request under way fails with the reason, new ones are refused, and the next process is started with
growing pauses. Knows neither Triton nor numpy.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy_runtime.errors import EngineError, UnavailableError
from bwdeploy_runtime.protocol import Cancel, Delta, RequestFailed, encode
from bwdeploy_runtime.stub.admission import Admission, Sink, Ticket
from bwdeploy_runtime.stub.life import EngineLife

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.protocol import Generate
    from bwdeploy_runtime.stub.connection import EngineConnection
    from bwdeploy_runtime.stub.process import EngineProcess

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_SOUND_LIFE_S = 60.0
"""After a life this long the next pause is the shortest again."""
_LONGEST_ROOM = 80
"""A Unix socket's path has at most 107 bytes."""


class EngineLink:
    """Public methods may be called from any thread; sinks are called from the supervisor thread."""

    def __init__(self, config: EngineConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._room = _private_directory()
        self.log = self._room / "engine.log"
        """The engine's output; kept after `close` if the engine ever failed."""
        self.restarts = 0
        """How often the engine was lost and started again."""
        self.kernel_calls: dict[str, int] = {}
        """Op of the kernel pack → how often it has run in all lives of the engine; replaced as a whole."""
        self._calls_before: dict[str, int] = {}
        self._lock = threading.Lock()
        self._admission = Admission(max_running=config.max_running, max_queued=config.max_queued)
        self._connection: EngineConnection | None = None
        self._process: EngineProcess | None = None
        self._info: dict[str, Any] | None = None
        self._trouble = ""
        self._closing = threading.Event()
        self._first_start = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="engine-supervisor", daemon=True)

    @property
    def running(self) -> int:
        """Requests in the engine."""
        return self._admission.running

    @property
    def queued(self) -> int:
        """Requests waiting for a place in the engine."""
        return self._admission.queued

    @property
    def engine_pid(self) -> int | None:
        """Process id of the engine while it takes requests."""
        process = self._process
        return process.pid if process else None

    def start(self) -> dict[str, Any]:
        """Start the engine and wait until it is loaded; what it says of itself.

        Raises:
            EngineError: it did not start; the message has the reason and the log.
        """
        self._supervisor.start()
        self._first_start.wait()
        if self._info is None:
            self._supervisor.join()
            raise EngineError(self._trouble)
        return self._info

    def submit(self, command: Generate, sink: Sink) -> None:
        """Have a request answered.

        Raises:
            UnavailableError: no room, or no engine right now.
        """
        ticket = Ticket(command.id, encode(command), sink)
        with self._lock:
            if self._connection is None:
                raise UnavailableError(f"The engine is restarting. {self._trouble} Try again later.")
            if self._admission.admit(ticket):
                self._connection.send(ticket.frame)

    def cancel(self, request_id: str) -> None:
        """Cut an answer short: its sink gets a last delta with finish `cancelled`; an unknown id is fine."""
        with self._lock:
            waiting = self._admission.withdraw(request_id)
            if waiting is None and self._connection is not None and self._admission.find(request_id):
                self._connection.send(encode(Cancel(id=request_id)))
        if waiting is not None:
            waiting.sink.on_delta(Delta(id=request_id, text="", tokens=0, finish="cancelled"))

    def close(self) -> None:
        """End the engine process; requests still under way fail."""
        self._closing.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        if self._trouble:
            _LOG.warning("the engine had failed; its log is kept: %s", self.log)
        else:
            shutil.rmtree(self._room)

    def on_ready(self, connection: EngineConnection, process: EngineProcess, info: dict[str, Any]) -> None:
        """For `life`: requests may come now."""
        with self._lock:
            self._connection, self._process = connection, process
        self._calls_before = self.kernel_calls
        self._info = info
        self._first_start.set()
        _LOG.info("the engine is ready: %s", info)

    def on_result(self, event: Delta | RequestFailed) -> None:
        """For `life`: pass the result on, and at its end give the place to the next request."""
        ticket = self._admission.find(event.id)
        if ticket is None:
            _LOG.warning("the engine answered an unknown request %s", event.id)
            return
        if isinstance(event, RequestFailed) or event.finish:
            self._free_place(event.id)
        if isinstance(event, Delta):
            _deliver(ticket, partial(ticket.sink.on_delta, event))
        else:
            _deliver(ticket, partial(ticket.sink.on_error, event.code, event.message))

    def on_kernel_calls(self, calls: dict[str, int]) -> None:
        """For `life`: add what this life has counted to what was there before it."""
        if calls:
            before = self._calls_before
            self.kernel_calls = before | {op: before.get(op, 0) + count for op, count in calls.items()}

    def _free_place(self, request_id: str) -> None:
        with self._lock:
            following = self._admission.finish(request_id)
            if following is not None and self._connection is not None:
                self._connection.send(following.frame)

    def _supervise(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._closing.is_set():
            started_s = time.monotonic()
            self._mourn(self._live())
            if not self._first_start.is_set():
                self._first_start.set()
                return
            if time.monotonic() - started_s > _SOUND_LIFE_S:
                pause_s = _FIRST_PAUSE_S
            if not self._closing.wait(pause_s):
                self.restarts += 1
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _live(self) -> str:
        life = EngineLife(self._config, self._directory, room=self._room, owner=self, closing=self._closing)
        try:
            return life.run()
        except Exception as error:  # noqa: BLE001 - see below
            # Whatever it is, waiting requests must be told; the traceback is for us.
            _LOG.exception("the supervision of the engine failed")
            return f"The supervision of the engine failed: {error!r}. Log: {self.log}"

    def _mourn(self, trouble: str) -> None:
        with self._lock:
            self._connection = self._process = None
            if not self._closing.is_set():
                self._trouble = trouble
            lost = self._admission.drain()
        if not self._closing.is_set():
            _LOG.error("%s (%d requests lost)", trouble, len(lost))
        for ticket in lost:
            _deliver(ticket, partial(ticket.sink.on_error, "unavailable", f"The answer was lost. {trouble}"))


def _deliver(ticket: Ticket, call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001 - see below
        # A client that cannot be reached must not end the thread that serves all the others.
        _LOG.exception("the result of request %s could not be delivered", ticket.id)


def _private_directory() -> Path:
    room = Path(tempfile.mkdtemp(prefix="bwdeploy-engine-"))
    if len(str(room)) > _LONGEST_ROOM:
        room.rmdir()
        room = Path(tempfile.mkdtemp(prefix="bwdeploy-engine-", dir="/tmp"))
    return room
