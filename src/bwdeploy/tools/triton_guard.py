"""The process between bwdeploy and a server: it ends the server when bwdeploy ends, however that happens.

Run by path with an isolated Python (`python -I -S triton_guard.py`); standard library only. It reads one
JSON line (see `tools.guarded_process`) from its standard input, which is also its lifeline: when the other
end closes, by a stop or because bwdeploy was killed, the server gets SIGTERM, a grace period, then SIGKILL
for its whole process group, for every orphan that it left and for its shared memory. When the guard itself
is killed, the kernel kills the server. It exits with the server's exit status.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05
_FALLBACK_POLL_S = 1.0
_ORPHAN_ROUNDS = 40
_CLEANUP_S = 120.0
"""enroot removes an image of many gigabytes file by file."""
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the server puts its regions, not a place of ours


def main() -> int:
    """Start the server, wait for its end or for the lifeline's, and leave nothing behind."""
    job = json.loads(sys.stdin.buffer.readline())
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_CHILD_SUBREAPER, 1)
    with Path(job["log"]).open("ab") as log, Path(job["output"] or job["log"]).open("ab") as output:
        server = _start(job, libc=libc, files=(output, log))
    try:
        with contextlib.suppress(BrokenPipeError):  # bwdeploy may be gone already
            os.write(1, f"{server.pid}\n".encode())
        code = _wait(server, grace_s=job["grace_s"])
    finally:
        _sweep(server.pid, job)
    return 128 - code if code < 0 else code


def _start(
    job: dict[str, Any], *, libc: ctypes.CDLL, files: tuple[IO[bytes], IO[bytes]]
) -> subprocess.Popen[bytes]:
    guard = os.getpid()

    def before_exec() -> None:
        # Safe here: this process has one thread, and that thread lives as long as the process.
        _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        wanted = job["stack_bytes"]
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))

    return subprocess.Popen(
        job["command"],
        stdin=subprocess.DEVNULL,
        stdout=files[0],
        stderr=files[1],
        env=job["env"],
        cwd=job["cwd"],
        start_new_session=True,
        preexec_fn=before_exec,  # noqa: PLW1509 - see above
    )


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    """Linux only: elsewhere the lifeline alone ends the server."""
    if sys.platform == "linux":
        libc.prctl(option, value, 0, 0, 0)


def _wait(server: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """Wait for the server's end, or for the lifeline's and then, after SIGTERM, for the server's."""
    wake = _wake_on_signals()
    while server.poll() is None:
        readable, _, _ = select.select([0, wake], [], [], _FALLBACK_POLL_S)
        if wake in readable and set(os.read(wake, 4096)) & _STOP_SIGNALS:
            break
        if 0 in readable and not os.read(0, 4096):
            break
    if server.poll() is None:
        server.terminate()
        deadline = time.monotonic() + grace_s
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    return server.returncode if server.returncode is not None else -signal.SIGKILL


def _wake_on_signals() -> int:
    """A pipe end that receives the number of each signal of interest."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _sweep(server: int, job: dict[str, Any]) -> None:
    """Kill what is left of the group, then every orphan (they became children of this process)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server, signal.SIGKILL)
    if job["cleanup"]:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                job["cleanup"],
                check=False,
                env=job["env"],
                capture_output=True,
                timeout=_CLEANUP_S,
                stdin=subprocess.DEVNULL,
            )
    for _ in range(_ORPHAN_ROUNDS):
        children = _children()
        if not children:
            break
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_POLL_S)
    if job["shared_memory_prefix"]:
        for leftover in _SHARED_MEMORY.glob(f"{job['shared_memory_prefix']}*"):
            leftover.unlink(missing_ok=True)


def _children() -> list[int]:
    own = os.getpid()
    listing = Path(f"/proc/{own}/task/{own}/children")
    try:
        return [int(word) for word in listing.read_text(encoding="ascii").split()]
    except OSError:  # a kernel without this list: the process group has been killed already
        return []


if __name__ == "__main__":
    sys.exit(main())
