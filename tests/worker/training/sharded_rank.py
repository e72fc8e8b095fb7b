"""A process of `worker.group_process`, but accelerate takes the CPU for a GPU and shards the model (FSDP2).

accelerate wraps models on CPUs with DDP only; the calls below it are the same for both. What kind of tensors
the parameters are is noted in a file beside the request.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState

from bwdeploy.worker import group_process
from bwdeploy.worker.training.trainer import FakeQuantTrainer

NOTE = "KINDS_OF_PARAMETERS"


def _as_gpu(_state: PartialState, *_arguments: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def _on_cpu(state: PartialState) -> None:
    state.device = torch.device("cpu")


def _noting(trainer: FakeQuantTrainer) -> Any:
    kinds = {type(one.data).__name__ for one in trainer.model.parameters()}
    Path(os.environ[NOTE]).write_text(",".join(sorted(kinds)), encoding="utf-8")
    return _optimizer_tensors(trainer)


_optimizer_tensors = FakeQuantTrainer.optimizer_tensors

if __name__ == "__main__":
    PartialState._prepare_backend = _as_gpu
    PartialState.set_device = _on_cpu
    FakeQuantTrainer.optimizer_tensors = _noting  # type: ignore[method-assign, assignment]
    status = group_process.main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(status)
