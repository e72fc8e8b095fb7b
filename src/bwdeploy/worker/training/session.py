"""One process of a training: load model, teacher and text, and train. On several GPUs every rank does so."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.pipeline.jobs import JobData, Progress
from bwdeploy.recipe.schema import Training
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.quantize import peak_gpu_memory
from bwdeploy.worker.training.master import load_float, load_master
from bwdeploy.worker.training.state import TrainingRecord, TrainingState, request_digest
from bwdeploy.worker.training.text import training_text, validation_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.pipeline.training_jobs import QuantizeTrained

# Where things lie says nothing about what is asked for.
_PLACES = frozenset({"source", "out", "state"})
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


class PeakMemory(JobData):
    """What a process needed at most, in bytes."""

    host: int
    gpu: int


class Trained(NamedTuple):
    """A finished training."""

    model: Any
    """With the weights of its last step."""
    record: TrainingRecord
    calibration_tokens: int


def state_of(request: QuantizeTrained) -> TrainingState:
    """The checkpoints of this request."""
    return TrainingState(request.state, request_digest(request, request.source, apart=_PLACES))


def settings_of(request: QuantizeTrained) -> Training:
    """How to train: as the recipe says, or the defaults."""
    return request.training or Training()


def train_here(request: QuantizeTrained, report: Callable[[Progress], None]) -> Trained:
    """Train in this process, alone or as one rank of several.

    Raises:
        RecipeError: format, overrides or data do not fit this model.
        ToolError: the loss diverges.
    """
    loop = import_module("bwdeploy.worker.training.loop")
    task = import_module("bwdeploy.worker.training.task")
    validation = import_module("bwdeploy.worker.training.validation")
    training = settings_of(request)
    report(Progress(phase="load"))
    sequences, held_out = training_text(request, training), validation_text(request, training)
    teacher = _teacher(request) if request.method == "qad" else None
    model, tokens = load_master(request, report)
    device = str(model.device)
    record = loop.train(
        model,
        task.Task(
            training=training,
            sequences=sequences,
            validation=validation.Validation(held_out, device=device, teacher=teacher),
            teacher=teacher,
            state=state_of(request),
            device=request.device,
            report=report,
        ),
    )
    return Trained(model, record, tokens)


def train_as_rank(request: QuantizeTrained, report: Callable[[Progress], None]) -> PeakMemory:
    """Train as one process of a group; the training lies in the request's state."""
    os.environ.update(_ACCELERATE)
    with rounding_on(request.device):
        train_here(request, report)
    return PeakMemory(host=peak_memory_bytes(), gpu=peak_gpu_memory(request.device))


def _teacher(request: QuantizeTrained) -> Any:  # noqa: ANN401 - a transformers model
    """The source model, for answers only; sharded as the student is, when there are several ranks."""
    torch = import_module("torch")
    teacher = load_float(request, dtype=torch.bfloat16 if request.device == "cuda" else torch.float32)
    teacher.requires_grad_(False)
    if torch.distributed.is_initialized():
        fully_shard = import_module("torch.distributed.fsdp").fully_shard
        blocks = set(teacher._no_split_modules or ())  # noqa: SLF001 - what accelerate wraps by, too
        for module in list(teacher.modules()):
            if type(module).__name__ in blocks:
                fully_shard(module)
        fully_shard(teacher)
    return teacher


@contextmanager
def rounding_on(device: str) -> Iterator[None]:
    """Let quantized forward passes run on `device`: a CPU needs its own rounding."""
    on_cpu = device == "cpu"
    with import_module("bwdeploy.worker.cpu_quantizers").cpu_rounding() if on_cpu else nullcontext():
        yield
