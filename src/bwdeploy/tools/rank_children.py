"""Adapter that runs one module of ours as several processes that work on one thing, one for each GPU.

Each finds its place in RANK, LOCAL_RANK and WORLD_SIZE, as under torchrun, and a pipe on standard input that
ends with this process: a child that watches it does not outlive `kill -9` of its parent. When one fails, the
others, which would wait for it, are ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S = 0.1
_GRACE_S = 3.0
"""After the first failure, for the others to say why they fail."""


def run_ranks(module: str, arguments: tuple[str, ...], ranks: int, *, on_line: Callable[[str], None]) -> bool:
    """Run `python -m module arguments` in `ranks` processes; whether all of them ended well.

    `on_line` is given every line that rank 0 writes to standard output; standard error is this process's.
    """
    with ExitStack() as stack:
        children = [_start(module, arguments, rank, ranks, stack) for rank in range(ranks)]
        reader = threading.Thread(target=_forward, args=(children[0].stdout, on_line), daemon=True)
        reader.start()
        failed_at: float | None = None
        while None in (statuses := [child.poll() for child in children]):
            if failed_at is None and any(statuses):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > _GRACE_S:
                return False
            time.sleep(_POLL_S)
        reader.join()
        return not any(child.returncode for child in children)


def _start(
    module: str, arguments: tuple[str, ...], rank: int, ranks: int, stack: ExitStack
) -> subprocess.Popen[str]:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
        env={**os.environ, **place},
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    stack.callback(_end, child)
    return child


def _forward(lines: IO[str] | None, on_line: Callable[[str], None]) -> None:
    for line in lines or ():
        on_line(line)


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
