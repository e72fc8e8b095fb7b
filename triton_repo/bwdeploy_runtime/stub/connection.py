"""The stub's end of the socket to one engine process.

Writing goes through a thread of its own, so that neither Triton's execute thread nor the supervisor ever
waits for an engine that does not read.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import select
import socket
import threading

from bwdeploy_runtime.protocol import LineBuffer

_LOG = logging.getLogger(__name__)
_RECEIVE_BYTES = 1 << 16


class EngineConnection:
    """An accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._socket = connection
        # A socket timeout would hold for the writer too and could cut a frame in two.
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._lines = LineBuffer()
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="engine-writer", daemon=True)
        self._writer.start()

    def send(self, frame: bytes) -> None:
        """Queue a frame; one that can no longer be delivered is dropped: its request fails anyway."""
        self._outgoing.put(frame)

    def receive(self, timeout_s: float) -> list[bytes] | None:
        """Whole lines, possibly none; None when the engine has closed."""
        if not self._readable.poll(timeout_s * 1000):
            return []
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except ConnectionError:
            return None
        return self._lines.feed(data) if data else None

    def close(self) -> None:
        """Close and end the writer."""
        self._outgoing.put(None)
        with contextlib.suppress(OSError):  # the other side may have closed first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._writer.join()
        self._socket.close()

    def _write(self) -> None:
        while (frame := self._outgoing.get()) is not None:
            try:
                self._socket.sendall(frame)
            except OSError as error:
                _LOG.info("a frame could not be sent to the engine: %s", error)
                return
