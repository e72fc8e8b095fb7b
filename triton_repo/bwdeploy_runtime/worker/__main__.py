"""The engine process: `python -m bwdeploy_runtime.worker --socket PATH --config engine.json`.

Started by the Triton stub (see `process` and `link`), never by hand. It loads the engine, says `ready`,
and answers commands from the socket until it is told to leave or the stub is gone. Its stdout and stderr
are its log.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines import create_engine
from bwdeploy_runtime.errors import RuntimeFault
from bwdeploy_runtime.protocol import (
    Fatal,
    Heartbeat,
    LineBuffer,
    Ready,
    Shutdown,
    decode_command,
    encode,
)
from bwdeploy_runtime.worker.loop import EngineLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy_runtime.protocol import Event

_LOG = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_RECEIVE_BYTES = 1 << 16
_HEARTBEATS_PER_STALL = 4
_COUNT_EVERY_S = 1.0
"""Reading the counters of kernels takes a copy from the device, or a file, for each."""


class EngineWorker:
    """One connection, one engine, three threads: reader, heartbeat, and the engine loop in the main one."""

    def __init__(self, connection: socket.socket, config: EngineConfig) -> None:
        self._connection = connection
        self._config = config
        self._send_lock = threading.Lock()
        self._left = threading.Event()
        self._counting_failed = False
        self._engine = create_engine(config.runtime)
        self._loop = EngineLoop(self._engine, config, send=self._send)

    def run(self, directory: Path) -> None:
        """Load, answer, leave.

        Raises:
            RuntimeFault: the engine could not be loaded.
        """
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        info = self._engine.load(self._config, directory, wake=self._loop.wake)
        _LOG.info("ready: %s", info)
        self._send([Ready(info=asdict(info))])
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        try:
            self._loop.run()
        finally:
            self._left.set()
            self._engine.close()

    def _send(self, events: Sequence[Event]) -> None:
        data = b"".join([encode(event) for event in events])
        with self._send_lock:
            self._connection.sendall(data)

    def _read(self) -> None:
        try:
            self._read_commands()
        except (OSError, RuntimeFault):
            _LOG.exception("commands can no longer be read")
        if not self._left.is_set():
            _LOG.error("the Triton stub is gone")
            leave_with_children()

    def _read_commands(self) -> None:
        lines = LineBuffer()
        while data := self._connection.recv(_RECEIVE_BYTES):
            for line in lines.feed(data):
                command = decode_command(line)
                if isinstance(command, Shutdown):
                    self._left.set()
                self._loop.post(command)

    def _beat(self) -> None:
        period_s = min(_COUNT_EVERY_S, self._config.stall_timeout_s / _HEARTBEATS_PER_STALL)
        calls: dict[str, int] = {}
        counted_s = time.monotonic()
        while not self._left.wait(period_s):
            if time.monotonic() - counted_s >= _COUNT_EVERY_S:
                counted_s = time.monotonic()
                calls = self._kernel_calls(calls)
            self._send([Heartbeat(self._loop.steps, self._loop.running, calls)])

    def _kernel_calls(self, known: dict[str, int]) -> dict[str, int]:
        try:
            calls = dict(self._engine.kernel_calls())
        except Exception:  # noqa: BLE001 - see below
            # Whatever it is, the engine's own step tells of it; without heartbeats the engine would be ended.
            if not self._counting_failed:  # one traceback, not one a second
                _LOG.exception("the calls of kernels could not be counted")
            self._counting_failed = True
            return known
        self._counting_failed = False
        return calls


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_with_children() -> None:
    """End this process at once, and its process group where it leads one."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0 after an orderly shutdown."""
    parser = argparse.ArgumentParser(prog="bwdeploy_runtime.worker")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--config", required=True, type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    die_with_parent()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(options.socket)
    try:
        config = EngineConfig.from_json(options.config.read_text(encoding="utf-8"))
        EngineWorker(connection, config).run(options.config.resolve().parent)
    except RuntimeFault as error:
        _LOG.error("%s", error)
        connection.sendall(encode(Fatal(message=str(error))))
        return 1
    except Exception as error:  # noqa: BLE001 - see below
        _LOG.exception("the engine failed")
        connection.sendall(encode(Fatal(message=f"{type(error).__name__}: {error}")))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
