"""A training from its newest checkpoint to its end: what happens after each step of the Trainer.

The loss of every step is looked at, the model is validated and kept at every `evaluate_every` steps, and the
training ends with its steps or its patience. What it leaves is the state's newest record.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import TrainingPoint
from bwdeploy.worker.training.master import model_tensors, restore_tensors, shard_again
from bwdeploy.worker.training.schedule import rate_factor
from bwdeploy.worker.training.state import TrainingRecord, TrainingState
from bwdeploy.worker.training.stopping import Divergence, best_step, out_of_patience
from bwdeploy.worker.training.trainer import FakeQuantTrainer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from bwdeploy.worker.training.task import Task

_LOOK_EVERY = 10
"""Steps between two looks at the loss, which wait for the device."""
_SECTION = "quantize.training"


def train(model: Any, task: Task) -> TrainingRecord:  # noqa: ANN401 - a transformers model
    """Train `model` in place from the newest checkpoint on, or from the start; the record of its end.

    Raises:
        ToolError: the loss diverges, and the checkpoints stay; or the calibrated model is broken.
    """
    newest = task.state.newest()
    if newest is None:
        newest = _begin(model, task)
    else:
        restore_tensors(model, task.state.model(newest.step))
    if newest.stopped is not None:
        return newest
    run = _Run(task, newest)
    FakeQuantTrainer(model, task, run).train()
    return run.record


def _begin(model: Any, task: Task) -> TrainingRecord:  # noqa: ANN401
    """Validate the calibrated model and keep it: a training that only harms leaves it as the best."""
    task.report(Progress(phase="validate"))
    measured = task.validation.measure(model)
    if not math.isfinite(task.figure(measured)):
        raise ToolError(
            "The calibrated model computes no numbers, so there is nothing to train.",
            hint="Is the source sound? Otherwise choose another quantize.format.",
        )
    start = TrainingPoint(step=0, validation=task.figure(measured))
    record = TrainingRecord(
        request=task.state.digest,
        step=0,
        points=(start,),
        perplexities={0: measured.perplexity},
        first_loss=None,
        seconds=0.0,
    )
    _keep(task.state, record, model_tensors(model), ())
    return record


def _keep(
    state: TrainingState,
    record: TrainingRecord,
    model: Iterable[tuple[str, Tensor]],
    optimizer: Iterable[tuple[str, Tensor]],
) -> None:
    """Save a checkpoint: every rank helps to gather it, the first writes."""
    writes = not distributed.is_initialized() or distributed.get_rank() == 0
    gathered = [
        {name: one.cpu().contiguous() for name, one in tensors if writes} for tensors in (model, optimizer)
    ]
    if writes:
        state.save(record, gathered[0], gathered[1], best=best_step(record.points))
    if distributed.is_initialized():
        distributed.barrier()


class _Run:
    """A training in progress, from one checkpoint to the next."""

    def __init__(self, task: Task, record: TrainingRecord) -> None:
        self.task = task
        self.record = record
        self.first = record.step
        self._began = time.monotonic()
        self._earlier = record.seconds
        self._divergence = Divergence(_SECTION, start=record.first_loss)
        self._new: list[Tensor] = []
        """Losses of the steps since the last look, on the device."""
        self._seen: list[float] = []
        """Losses of the steps since the last validation."""
        self._latest: float | None = None

    def took_loss(self, loss: Tensor) -> None:
        """See `trainer.Watcher`."""
        self._new.append(loss)

    def after_step(self, step: int, trainer: FakeQuantTrainer) -> bool:
        """Look, validate and keep a checkpoint where that is due; whether the training is at its end."""
        training = self.task.training
        due = step % training.evaluate_every == 0 or step == training.steps
        if due or step % _LOOK_EVERY == 0:
            self._look(step)
        if due:
            self._validate(step, trainer)
        self._tell(step)
        return self.record.stopped is not None

    def _look(self, step: int) -> None:
        losses = torch.stack(self._new).float()
        if distributed.is_initialized():
            distributed.all_reduce(losses)
            losses /= distributed.get_world_size()
        for number, loss in enumerate(losses.tolist(), step - len(self._new) + 1):
            rate = self.task.training.learning_rate * rate_factor(self.task.training, number - 1)
            self._divergence.check(number, loss, rate)
            self._seen.append(loss)
            self._latest = loss
        self._new.clear()

    def _validate(self, step: int, trainer: FakeQuantTrainer) -> None:
        task, training = self.task, self.task.training
        task.report(Progress(phase="validate", done=step, total=training.steps))
        measured = task.validation.measure(trainer.model)
        figure = task.figure(measured)
        if not math.isfinite(figure):
            rate = training.learning_rate * rate_factor(training, step - 1)
            raise self._divergence.error(step, f"its {task.metric} on the validation text is {figure}", rate)
        seconds = self._earlier + time.monotonic() - self._began
        loss = sum(self._seen) / len(self._seen)
        point = TrainingPoint(step=step, loss=loss, validation=figure, seconds=round(seconds, 2))
        self._seen.clear()
        points = (*self.record.points, point)
        patient = not out_of_patience(points, training.patience)
        self.record = TrainingRecord(
            request=task.state.digest,
            step=step,
            points=points,
            perplexities=self.record.perplexities | {step: measured.perplexity},
            first_loss=self._divergence.start,
            seconds=seconds,
            stopped="steps" if step == training.steps else None if patient else "patience",
        )
        shard_again(trainer.model)
        _keep(task.state, self.record, model_tensors(trainer.model), trainer.optimizer_tensors())
        # So that a resumed training draws what an uninterrupted one draws, in models with dropout.
        torch.manual_seed(training.seed + step)

    def _tell(self, step: int) -> None:
        words = [] if self._latest is None else [f"loss {self._latest:.4g}"]
        last = self.record.points[-1]
        words.append(f"{self.task.metric} {last.validation:.4g} at step {last.step}")
        self.task.report(
            Progress(phase="train", done=step, total=self.task.training.steps, detail=", ".join(words))
        )
