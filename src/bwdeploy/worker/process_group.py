"""Run a training as several processes of this machine, one for each GPU, that torch brings together.

What `torchrun --standalone` does, from inside the worker: torch's elastic agent starts the processes, watches
them, and ends all when one fails. The progress of the first comes back through a named pipe, its result and
the reason of a failure as files.
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
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import BwdeployError, ToolError
from bwdeploy.pipeline.jobs import Progress, to_json
from bwdeploy.tools.executors.worker_jobs import reported_error
from bwdeploy.worker.group_process import FAILURE, JOB, PROGRESS, RESULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.training_jobs import QuantizeTrained, TargetJob

_MODULE = "bwdeploy.worker.group_process"
_AGENT = "agent"
"""Where torch's agent keeps what it notes of each process."""


def run_in_group(
    request: QuantizeTrained | TargetJob[Any],
    part: str,
    report: Callable[[Progress], None],
    *,
    processes: int,
) -> Any:  # noqa: ANN401 - JSON data
    """Run `part` ("module:function", given the request and a way to report) in every process of a group.

    Returns:
        What the first process returned, as JSON data.

    Raises:
        RecipeError, HostError, StoreError, ToolError: as the first process that failed tells.
    """
    with TemporaryDirectory(dir=request.state, prefix="group-") as name:
        place = Path(name)
        job = {"type": type(request).__name__, "part": part, "request": to_json(request)}
        (place / JOB).write_text(json.dumps(job), encoding="utf-8")
        with _reports(place / PROGRESS, report):
            _launch(place, processes)
        return json.loads((place / RESULT).read_bytes())


def _launch(place: Path, processes: int) -> None:
    launcher = import_module("torch.distributed.launcher.api")
    elastic = import_module("torch.distributed.elastic.multiprocessing")
    config = launcher.LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
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
            hint="Was it killed for its memory? The log has its last lines; build again to go on.",
        )
    return reported_error(told)


@contextmanager
def _reports(pipe: Path, report: Callable[[Progress], None]) -> Iterator[None]:
    """Hand on what the first process reports through the named pipe `pipe`."""
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
