"""Adapter that runs modules of ours in child processes of the same Python, all at once, and waits for them.

For work that only goes parallel in processes of its own; the children end with the one that started them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LAST_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One run of `python -m module arguments`."""

    name: str
    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beyond that of this process."""


def run_children(children: Sequence[Child], *, timeout_s: float) -> dict[str, str]:
    """Run all of them at the same time; the name of each that failed or took too long, with its last line."""
    with ExitStack() as stack:
        started = [(child, *_start(child, stack)) for child in children]
        deadline = time.monotonic() + timeout_s
        late = {child.name for child, process, _ in started if not _ended(process, deadline)}
        return {
            child.name: f"not ready after {timeout_s:.0f} s" if child.name in late else _last_line(log)
            for child, process, log in started
            if process.returncode
        }


def _start(child: Child, stack: ExitStack) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by the stack
    process = subprocess.Popen(
        [sys.executable, "-m", child.module, *child.arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **child.environment},  # the error is the last line
    )
    stack.callback(_end, process)
    return process, log


def _ended(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait for it; a child that is late is killed."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _end(process)
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _last_line(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LAST_CHARACTERS))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
