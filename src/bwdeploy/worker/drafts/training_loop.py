"""The optimizer's loop around a draft: batches, schedule, validation, checkpoints, going on after a break.

The host reads the loss every ten steps only. Data order depends on seed and step alone, so a training that
was interrupted goes on from its checkpoint as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import TrainingCurve, TrainingPoint
from bwdeploy.worker.drafts.divergence import LossWatch
from bwdeploy.worker.drafts.sequences import endless_batches, make_batch
from bwdeploy.worker.drafts.validation import Validation, validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bwdeploy.recipe.schema import DraftTraining
    from bwdeploy.worker.drafts.material import Material
    from bwdeploy.worker.drafts.ranks import Ranks
    from bwdeploy.worker.drafts.tensor_files import StoredTensors
    from bwdeploy.worker.drafts.training_state import TrainingState
    from bwdeploy.worker.drafts.unrolling import UnrolledDraft

STEP_DECAY = 0.9
"""ModelOpt's eagle_loss_decay_factor: a later drafted token counts less, as it is asked for less often."""
_LOOK_EVERY = 10
_LARGEST_GRADIENT = 1.0
_BETAS = (0.9, 0.95)
_WARMUP_SHARE = 4
"""At most a quarter of all steps warms up, however short a trial is."""


class Trained(NamedTuple):
    """How it went; the draft has the best weights."""

    curve: TrainingCurve
    validation: Validation


def learning_rate(step: int, training: DraftTraining) -> float:
    """Of step 0, 1, …: linear up to the peak, then a cosine down to zero."""
    warmup = min(training.warmup_steps, training.steps // _WARMUP_SHARE)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, training.steps - warmup)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class TrainingLoop:
    """One training of one draft, in one process or in each of several."""

    def __init__(
        self,
        draft: UnrolledDraft,
        training: DraftTraining,
        material: Material,
        *,
        state: TrainingState,
        ranks: Ranks,
        report: Callable[[Progress], None],
    ) -> None:
        self._draft, self._training, self._material = draft, training, material
        self._state, self._ranks, self._report = state, ranks, report
        self._parameters = dict(draft.draft.named_parameters())
        self._optimizer = torch.optim.AdamW(
            list(self._parameters.values()),
            lr=training.learning_rate,
            betas=_BETAS,
            weight_decay=0.0,
            fused=ranks.device == "cuda",
        )
        self._points: list[TrainingPoint] = []
        self._best = (0, -math.inf)
        self._began = time.monotonic()

    def run(self) -> Trained | None:
        """Train from the newest checkpoint, or from the start, to the last step; None but for rank 0.

        Raises:
            ToolError: the training diverged.
        """
        found = self._state.newest()
        first = 0 if found is None else self._restore(found)
        module = self._ranks.wrap(self._draft)
        steps = self._training.steps
        losses = torch.zeros((), device=self._ranks.device)
        watch, since_look, since_point = LossWatch(), 0, _Mean()
        for step, batch in enumerate(self._batches(first, steps), first + 1):
            losses += self._step(module, batch, learning_rate(step - 1, self._training))
            since_look += 1
            due = step % self._training.evaluate_every == 0 or step == steps
            if due or since_look == _LOOK_EVERY:
                since_point.add(self._look(losses, since_look, step, watch), since_look)
                since_look = 0
            if due and self._ranks.rank == 0:
                self._evaluate(step, since_point.take())
        return self._finish(None if found is None else first) if self._ranks.rank == 0 else None

    def _batches(self, first: int, steps: int) -> Any:  # noqa: ANN401 - an iterator of index lists
        lengths = [len(sequence.tokens) for sequence in self._material.training]
        endless = endless_batches(lengths, self._training.batch_size, self._training.seed)
        return islice(endless, first, steps)

    def _step(self, module: Any, chosen: list[int], rate: float) -> Tensor:  # noqa: ANN401 - torch module
        batch = make_batch(
            [self._material.training[index] for index in chosen],
            steps=self._training.ttt_steps,
            decay=STEP_DECAY,
            share=(self._ranks.rank, self._ranks.size),
        ).to(self._ranks.device)
        loss: Tensor = module(batch)
        # Exchanged gradients are averages, and each process weighs its rows against those of all.
        (loss * self._ranks.size).backward()
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), _LARGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _look(self, losses: Tensor, count: int, step: int, watch: LossWatch) -> float:
        """Mean loss of the last `count` steps; `losses` starts anew."""
        mean = float(losses) * self._ranks.size / count
        losses.zero_()
        watch.check(step, mean, learning_rate(step - 1, self._training))
        reached = f", acceptance length {self._best[1]:.2f}" if self._points else ""
        self._report(
            Progress(phase="train", done=step, total=self._training.steps, detail=f"loss {mean:.3f}{reached}")
        )
        return mean

    def _evaluate(self, step: int, loss: float) -> None:
        measured = self._validate().acceptance_length
        weights = {name: value.detach().cpu() for name, value in self._parameters.items()}
        if measured > self._best[1]:
            self._best = (step, measured)
            self._state.save_best(weights)
        seconds = round(time.monotonic() - self._began, 2)
        self._points.append(TrainingPoint(step=step, loss=loss, validation=measured, seconds=seconds))
        self._save(step, weights)

    def _validate(self) -> Validation:
        return validate(
            self._draft,
            self._material.held_out,
            steps=self._training.ttt_steps,
            device=self._ranks.device,
        )

    def _save(self, step: int, weights: dict[str, Tensor]) -> None:
        tensors = {f"draft.{name}": value for name, value in weights.items()}
        moments = self._optimizer.state_dict()["state"]
        for index, name in enumerate(self._parameters):
            tensors |= {f"{kind}.{name}": value.detach().cpu() for kind, value in moments[index].items()}
        facts = {
            "step": step,
            "best": self._best,
            "points": [point.model_dump(mode="json") for point in self._points],
        }
        self._state.save(step, tensors, facts)

    def _restore(self, found: StoredTensors) -> int:
        """Take up a checkpoint; the step it was written at."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(found.tensors[f"draft.{name}"])
        moments = {
            index: {kind: found.tensors[f"{kind}.{name}"] for kind in ("step", "exp_avg", "exp_avg_sq")}
            for index, name in enumerate(self._parameters)
        }
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._points = [TrainingPoint.model_validate(point) for point in found.facts["points"]]
        self._began -= self._points[-1].seconds
        self._best = (found.facts["best"][0], found.facts["best"][1])
        return int(found.facts["step"])

    def _finish(self, resumed_at: int | None) -> Trained:
        """Put the best weights into the draft, rounded as they will be exported, and measure those."""
        best = self._state.best()
        if best is not None:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(best[name].to(torch.bfloat16))
        curve = TrainingCurve(
            metric="acceptance_length",
            points=tuple(self._points),
            steps=self._training.steps,
            best_step=self._best[0],
            stopped="steps",
            resumed_at=resumed_at,
            gpus=self._ranks.size,
        )
        return Trained(curve, self._validate())


class _Mean:
    """Mean over a growing number of steps."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, mean: float, count: int) -> None:
        """Take in `count` more steps."""
        self._sum += mean * count
        self._count += count

    def take(self) -> float:
        """The mean so far; starts anew."""
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        return mean
