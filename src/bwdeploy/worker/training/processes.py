"""Train on several GPUs of this machine: one process a GPU, started and watched by torch's elastic agent.

What `torchrun --standalone` does, from inside the worker. Progress comes back through a named pipe, the
reason of a failure as a file.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import BwdeployError, Finding, HostError, RecipeError, StoreError, ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.worker.training.rank import FAILURE, PEAK, PROGRESS, REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.training_jobs import QuantizeTrained

_MODULE = "bwdeploy.worker.training.rank"
_AGENT = "agent"
"""Where torch's agent keeps what it notes of each process."""


class PeakMemory(NamedTuple):
    """What the first rank needed at most, in bytes."""

    host: int
    gpu: int


def train_on_ranks(request: QuantizeTrained, report: Callable[[Progress], None], *, ranks: int) -> PeakMemory:
    """Train `request` in `ranks` processes; the result lies in its state.

    Raises:
        RecipeError, HostError, StoreError, ToolError: as the first rank that failed tells.
    """
    with TemporaryDirectory(prefix="bwdeploy-ranks-") as name:
        place = Path(name)
        (place / REQUEST).write_text(request.model_dump_json(), encoding="utf-8")
        with _reports(place / PROGRESS, report):
            _launch(place, ranks)
        return PeakMemory(**json.loads((place / PEAK).read_bytes()))


def _launch(place: Path, ranks: int) -> None:
    launcher = import_module("torch.distributed.launcher.api")
    elastic = import_module("torch.distributed.elastic.multiprocessing")
    config = launcher.LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        # By default in the machine's directory for temporary files, where it stays.
        logs_specs=elastic.DefaultLogsSpecs(log_dir=str(place / _AGENT)),
    )
    try:
        launcher.elastic_launch(config, sys.executable)("-m", _MODULE, str(place))
    except elastic.errors.ChildFailedError as error:
        raise _failure(place) from error


def _failure(place: Path) -> BwdeployError:
    try:
        told: dict[str, Any] = json.loads((place / FAILURE).read_bytes())
    except (OSError, ValueError):
        return ToolError(
            "A process of the training ended without a word.",
            hint="Was it killed for its memory? The log has the last lines of every rank.",
        )
    if told["kind"] == "recipe":
        return RecipeError(tuple(Finding(**finding) for finding in told["findings"]))
    kind = {"host": HostError, "store": StoreError}.get(told["kind"], ToolError)
    return kind(told["message"], hint=told["hint"])


@contextmanager
def _reports(pipe: Path, report: Callable[[Progress], None]) -> Iterator[None]:
    """Hand on what the first rank reports through the named pipe `pipe`."""
    os.mkfifo(pipe, mode=0o600)
    # For reading and writing: opening it waits for nobody, and it never ends before we close it.
    with os.fdopen(os.open(pipe, os.O_RDWR), "rb+", buffering=0) as channel:
        reader = threading.Thread(target=_read, args=(channel, report), daemon=True)
        reader.start()
        try:
            yield
        finally:
            channel.write(b"\n")
            reader.join()


def _read(channel: Any, report: Callable[[Progress], None]) -> None:  # noqa: ANN401 - a raw stream
    for line in iter(channel.readline, b"\n"):
        report(Progress.model_validate_json(line))
