"""Start a server under a guard process that outlives bwdeploy just long enough to end the server.

The guard (`triton_guard.py`) holds the other end of a pipe: a stop, a crash and `kill -9` of bwdeploy look
the same to it. This module knows nothing of Triton; it starts, watches and stops.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bwdeploy.errors import ToolError
from bwdeploy.tools import triton_guard

if TYPE_CHECKING:
    from collections.abc import Mapping

_SWEEP_ALLOWANCE_S = 135.0
"""Time for the guard's own work after the grace period: kills and the container's removal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedCommand:
    """What the guard is told; travels to it as JSON."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment of the server."""
    cwd: str
    log: str
    """File that receives standard error, and standard output unless `output` is given."""
    grace_s: float
    """Between SIGTERM and SIGKILL."""
    stack_bytes: int
    """Soft RLIMIT_STACK of the server."""
    output: str = ""
    """File that receives standard output; empty: the log."""
    cleanup: tuple[str, ...] = ()
    """Run after the kill, for example to remove a container; empty for none."""
    shared_memory_prefix: str = ""
    """Files of /dev/shm that begin like this are removed at the end; empty for none."""


class GuardedProcess:
    """A running server and its guard."""

    def __init__(self, job: GuardedCommand) -> None:
        """Start it.

        Raises:
            ToolError: the executable could not be started.
        """
        self._grace_s = job.grace_s
        with Path(job.log).open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(triton_guard.__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        _pipe(self._guard.stdin).write(json.dumps(asdict(job)).encode() + b"\n")
        _pipe(self._guard.stdin).flush()
        first_line = _pipe(self._guard.stdout).readline()
        if not first_line:
            self.stop()
            raise ToolError(
                f"{job.command[0]} could not be started.",
                hint="The log has the reason.",
                log=Path(job.log),
                last_lines=tuple(
                    Path(job.log).read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                ),
            )
        self.pid = int(first_line)

    def poll(self) -> int | None:
        """The server's exit status (128 + signal), or None while it runs."""
        return self._guard.poll()

    def stop(self) -> int:
        """End the server and everything it started; returns its exit status. Safe to call twice."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._guard.stdin).close()
        try:
            return self._guard.wait(timeout=self._grace_s + _SWEEP_ALLOWANCE_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()  # the kernel then kills the server
            return self._guard.wait()
        finally:
            _pipe(self._guard.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("The guard was started without this pipe.")
    return stream
