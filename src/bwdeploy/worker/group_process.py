"""One process of a training on several GPUs: `python -m bwdeploy.worker.group_process PLACE`.

Started by `process_group`, with torch's variables of rank and world set. PLACE holds the job; the first
process writes progress and its result there, whichever fails first the reason. It dies with the worker.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline import training_jobs
from bwdeploy.pipeline.jobs import to_json
from bwdeploy.worker.failures import describe_failure
from bwdeploy.worker.process import hide_scikit_learn, usable_cpus, write_atomically

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Device, JobData, Progress

JOB, PROGRESS, RESULT, FAILURE = "job.json", "progress", "result.json", "failure.json"
_PR_SET_PDEATHSIG = 1
_PATIENCE = timedelta(days=2)
"""For each other: one may generate, validate, write or export for long while the others wait."""


def main(place: Path) -> int:
    """Do the part of one process; 0 when it came to its end."""
    if sys.platform == "linux":  # die with the worker, however it dies
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    hide_scikit_learn()
    try:
        _run(json.loads((place / JOB).read_bytes()), place)
    except Exception as error:  # noqa: BLE001 - the boundary of the process: every failure becomes a file
        traceback.print_exc(file=sys.stderr)
        if not (place / FAILURE).exists():  # the first to fail knows why; the others were left alone
            write_atomically(place / FAILURE, json.dumps(describe_failure(error)))
        return 1
    return 0


def _run(job: dict[str, Any], place: Path) -> None:
    request = getattr(training_jobs, job["type"]).model_validate_json(json.dumps(job["request"]))
    module, _, function = job["part"].partition(":")
    distributed = import_module("torch.distributed")
    _join(request.device)
    first = distributed.get_rank() == 0
    with (place / PROGRESS).open("w", encoding="utf-8", buffering=1) as progress:

        def report(one: Progress) -> None:
            if first:
                progress.write(one.model_dump_json() + "\n")

        result: JobData | None = getattr(import_module(module), function)(request, report)
    distributed.barrier()  # what the first returns counts once all have come to their end
    if first and result is not None:
        write_atomically(place / RESULT, json.dumps(to_json(result)))
    distributed.destroy_process_group()


def _join(device: Device) -> None:
    """Meet the other processes and share the machine's CPUs with them."""
    torch = import_module("torch")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    share = max(1, usable_cpus() // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(min(share, torch.get_num_threads()))
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=_PATIENCE)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stderr.flush()
    # Library threads make a normal shutdown slow, and all is on disk.
    os._exit(status)
