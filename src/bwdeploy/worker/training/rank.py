"""One rank of a training on several GPUs: `python -m bwdeploy.worker.training.rank PLACE`.

Started by `processes`, with torch's variables of rank and world set. Reads the request from PLACE; the first
rank writes progress and peak memory there, any rank why it failed. The training lies in the request's state.
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
from typing import TYPE_CHECKING

from bwdeploy.pipeline.training_jobs import QuantizeTrained
from bwdeploy.worker.failures import describe_failure
from bwdeploy.worker.process import hide_scikit_learn, peak_memory_bytes, write_atomically

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Progress

REQUEST, PROGRESS, FAILURE, PEAK = "request.json", "progress", "failure.json", "peak.json"
_PR_SET_PDEATHSIG = 1
_PATIENCE = timedelta(hours=1)
"""All wait while the first rank writes a checkpoint; torch's own ten minutes are few for a large model."""
# accelerate's own variables: what `accelerate launch` sets for FSDP2. The weights stay float32 in the shards;
# the loss computes in bf16 by itself.
_ACCELERATE = {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_MIXED_PRECISION": "no",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def main(place: Path) -> int:
    """Train as one rank; 0 when it came to its end."""
    if sys.platform == "linux":  # die with the worker, however it dies
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    os.environ.update(_ACCELERATE)
    hide_scikit_learn()
    try:
        request = QuantizeTrained.model_validate_json((place / REQUEST).read_bytes())
        _train(request, place)
    except Exception as error:  # noqa: BLE001 - the boundary of the process: every failure becomes a file
        traceback.print_exc(file=sys.stderr)
        if not (place / FAILURE).exists():  # the first to fail knows why; the others were left alone
            write_atomically(place / FAILURE, json.dumps(describe_failure(error)))
        return 1
    return 0


def _train(request: QuantizeTrained, place: Path) -> None:
    distributed = import_module("torch.distributed")
    cuda = import_module("torch").cuda
    session = import_module("bwdeploy.worker.training.session")
    if request.device == "cuda":
        cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if request.device == "cuda" else "gloo", timeout=_PATIENCE)
    with (
        (place / PROGRESS).open("w", encoding="utf-8", buffering=1) as progress,
        session.rounding_on(request.device),
    ):

        def report(one: Progress) -> None:
            if distributed.get_rank() == 0:
                progress.write(one.model_dump_json() + "\n")

        session.train_here(request, report)
    if distributed.get_rank() == 0:
        gpu = cuda.max_memory_allocated() if request.device == "cuda" else 0
        write_atomically(place / PEAK, json.dumps({"host": peak_memory_bytes(), "gpu": int(gpu)}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stderr.flush()
    # Library threads make a normal shutdown slow, and all is on disk.
    os._exit(status)
