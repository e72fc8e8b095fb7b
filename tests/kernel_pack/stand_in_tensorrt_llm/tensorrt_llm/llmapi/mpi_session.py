"""As tensorrt_llm/llmapi/mpi_session.py: new processes, which get sys.path and a pickled task, and no more.

In place of MPI pipes; a process is started as `python -m`, so that nothing of the parent is in it.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_ROOT = Path(__file__).parents[2]


class MpiPoolSession:
    def __init__(self, n_workers: int) -> None:
        """Like an MPIPoolExecutor with path=sys.path."""
        command = [sys.executable, "-m", "tensorrt_llm.llmapi.mpi_session"]
        self._workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT)
            for _ in range(n_workers)
        ]
        for worker in self._workers:
            _put(worker.stdin, list(sys.path))

    def submit_sync(self, task: Callable[..., Any], arguments: list[dict[str, Any]]) -> list[Any]:
        for worker, argument in zip(self._workers, arguments, strict=True):
            _put(worker.stdin, (task, argument))
        return [_get(worker.stdout) for worker in self._workers]

    def send(self, request: int) -> list[Any]:
        for worker in self._workers:
            _put(worker.stdin, request)
        return [_get(worker.stdout) for worker in self._workers]

    def shutdown(self) -> None:
        for worker in self._workers:
            with worker:
                assert worker.stdin is not None
                worker.stdin.close()


def _put(pipe: Any, value: Any) -> None:
    pipe.write(pickle.dumps(value))
    pipe.flush()


def _get(pipe: Any) -> Any:
    return pickle.load(pipe)  # noqa: S301 - written by this module


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    sys.path.extend(path for path in _get(requests) if path not in sys.path)
    task, arguments = _get(requests)
    running = task(**arguments)
    _put(answers, next(running))
    while True:
        try:
            request = _get(requests)
        except EOFError:
            return
        _put(answers, running.send(request))


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
