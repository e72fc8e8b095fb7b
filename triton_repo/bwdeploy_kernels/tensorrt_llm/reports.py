"""What each worker process tells of its kernels: one small file a process, read by the process that serves.

TensorRT-LLM's MPI workers have no way back for a number that is not part of an answer. Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """The kernels of one worker process."""

    modules: dict[str, int] = field(default_factory=dict)
    """Op → places of the model that call it."""
    calls: dict[str, int] = field(default_factory=dict)
    """Op → launches so far."""
    error: str = ""
    """Why they could not be put into the model."""


def write_report(directory: Path, report: WorkerReport) -> None:
    """Replace this process's report in `directory`.

    Raises:
        OSError: it cannot be written.
    """
    path = directory / f"{socket.gethostname()}-{os.getpid()}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(report)), encoding="utf-8")
    partial.replace(path)


def read_reports(directory: Path) -> tuple[WorkerReport, ...]:
    """The reports of all processes, in no order that means anything.

    Raises:
        OSError: one cannot be read.
    """
    files = sorted(directory.glob("*.json"))
    return tuple(WorkerReport(**json.loads(file.read_text(encoding="utf-8"))) for file in files)


def summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Op → the sum over all processes."""
    total: dict[str, int] = {}
    for one in counts:
        for op, count in one.items():
            total[op] = total.get(op, 0) + count
    return total
