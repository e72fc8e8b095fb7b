"""One life of the engine process: connect, wait until it is loaded, read its events, notice its end."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from bwdeploy_runtime.errors import EngineError, ProtocolError
from bwdeploy_runtime.protocol import (
    Delta,
    Fatal,
    Heartbeat,
    Ready,
    RequestFailed,
    Shutdown,
    decode_event,
    encode,
)
from bwdeploy_runtime.stub.connection import EngineConnection
from bwdeploy_runtime.stub.process import EngineProcess
from bwdeploy_runtime.stub.watch import ProgressWatch

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.protocol import Event

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
_SHUTDOWN_WAIT_S = 10.0


class Owner(Protocol):
    """Who an engine process works for; called from the thread that runs the life."""

    @property
    def running(self) -> int:
        """Requests in the engine."""
        ...

    def on_ready(self, connection: EngineConnection, process: EngineProcess, info: dict[str, Any]) -> None:
        """The engine is loaded and takes requests."""
        ...

    def on_result(self, event: Delta | RequestFailed) -> None:
        """Something about a request."""
        ...

    def on_kernel_calls(self, calls: dict[str, int]) -> None:
        """How often each op of the kernel pack has run in this life."""
        ...


class EngineLife:
    """Starts in `run`, which returns when the process is gone."""

    def __init__(
        self, config: EngineConfig, directory: Path, *, room: Path, owner: Owner, closing: threading.Event
    ) -> None:
        self._config = config
        self._directory = directory
        self._room = room
        self._owner = owner
        self._closing = closing
        self._last_words = ""

    def run(self) -> str:
        """Live; the reason why it ended, as a sentence for clients and logs."""
        log = self._room / "engine.log"
        try:
            with _listening(self._room / "engine.sock") as listener:
                process = EngineProcess(
                    self._directory,
                    socket_path=self._room / "engine.sock",
                    log=log,
                    environment=self._config.environment,
                )
                try:
                    trouble = self._live(process, listener)
                finally:
                    process.kill()
        except (EngineError, OSError) as error:
            return f"The engine could not be started: {error}"
        return f"{trouble.rstrip('.')}. Log: {log}"

    def _live(self, process: EngineProcess, listener: socket.socket) -> str:
        deadline_s = time.monotonic() + self._config.startup_timeout_s
        accepted = self._accept(process, listener, deadline_s)
        if accepted is None:
            return self._why_not_ready(process)
        connection = EngineConnection(accepted)
        try:
            info = self._wait_until_ready(connection, deadline_s)
            if info is None:
                return self._why_not_ready(process)
            self._owner.on_ready(connection, process, info)
            hung = self._read(connection)
            if self._closing.is_set():
                connection.send(encode(Shutdown()))
                process.wait(_SHUTDOWN_WAIT_S)
                return "The engine was told to leave"
            return self._why_ended(process, hung)
        finally:
            connection.close()

    def _accept(
        self, process: EngineProcess, listener: socket.socket, deadline_s: float
    ) -> socket.socket | None:
        listener.settimeout(_POLL_S)
        while time.monotonic() < deadline_s and not process.ended() and not self._closing.is_set():
            try:
                return listener.accept()[0]
            except TimeoutError:
                continue
        return None

    def _wait_until_ready(self, connection: EngineConnection, deadline_s: float) -> dict[str, Any] | None:
        while time.monotonic() < deadline_s and not self._closing.is_set():
            lines = connection.receive(_POLL_S)
            if lines is None:
                return None
            for event in map(self._decode, lines):
                if isinstance(event, Ready):
                    return event.info
        return None

    def _read(self, connection: EngineConnection) -> str | None:
        """Hand events on until the end; why the engine is taken for hung, None: it closed or we close."""
        watch = ProgressWatch(stall_timeout_s=self._config.stall_timeout_s, now_s=time.monotonic())
        while not self._closing.is_set():
            lines = connection.receive(_POLL_S)
            if lines is None:
                return None
            now_s = time.monotonic()
            if lines:
                watch.sign(now_s)
            for event in map(self._decode, lines):
                if isinstance(event, Heartbeat):
                    watch.steps(event.steps, now_s)
                    self._owner.on_kernel_calls(event.kernel_calls)
                elif isinstance(event, Delta | RequestFailed):
                    self._owner.on_result(event)
            hung = watch.verdict(running=self._owner.running, now_s=now_s)
            if hung:
                return hung
        return None

    def _decode(self, line: bytes) -> Event | None:
        try:
            event = decode_event(line)
        except ProtocolError:
            _LOG.exception("the engine sent something unreadable")
            return None
        if isinstance(event, Fatal):
            self._last_words = event.message
        return event

    def _why_not_ready(self, process: EngineProcess) -> str:
        if self._last_words:
            return f"The engine could not be loaded: {self._last_words}"
        if process.wait(_POLL_S):
            return f"The engine process {process.describe_end()} while loading: {process.last_lines()}"
        return f"The engine was not ready within startup_timeout_s, {self._config.startup_timeout_s:g} s"

    def _why_ended(self, process: EngineProcess, hung: str | None) -> str:
        if hung:
            return f"The engine {hung} and was ended"
        if self._last_words:
            return f"The engine failed: {self._last_words}"
        process.wait(_SHUTDOWN_WAIT_S)
        return f"The engine process {process.describe_end()}"


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
