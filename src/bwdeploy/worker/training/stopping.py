"""When a training ends: its best step, its patience, whether it diverges. Pure arithmetic on its points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bwdeploy.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.pipeline.training_jobs import TrainingPoint

_WINDOW = 20
# Twice the start and one nat more: neither a noisy batch nor a divergence that begins near zero gets there.
_FACTOR, _NATS = 2.0, 1.0


def best_step(points: Sequence[TrainingPoint]) -> int:
    """The step with the smallest validation figure, the first of equal ones."""
    return min(_validated(points), key=lambda pair: (pair[1], pair[0]))[0]


def out_of_patience(points: Sequence[TrainingPoint], patience: int) -> bool:
    """Whether the last `patience` validations brought nothing better than the best before them."""
    best = best_step(points)
    return sum(step > best for step, _ in _validated(points)) >= patience


def _validated(points: Sequence[TrainingPoint]) -> list[tuple[int, float]]:
    return [(point.step, point.validation) for point in points if point.validation is not None]


class Divergence:
    """Watches the loss of every step."""

    def __init__(self, section: str, *, start: float | None = None) -> None:
        self.start = start
        """The loss of the first step of all, before any update."""
        self._section = section
        self._high = 0

    def check(self, step: int, loss: float, rate: float) -> None:
        """Take the loss of one more step.

        Raises:
            ToolError: it is not a number, or has been far above its start for many steps.
        """
        if not math.isfinite(loss):
            raise self.error(step, f"its loss is {loss}", rate)
        if self.start is None:
            self.start = loss
        self._high = self._high + 1 if loss > _FACTOR * self.start + _NATS else 0
        if self._high >= _WINDOW:
            words = f"its loss, {self.start:.4g} at first, has been far above for {_WINDOW} steps: {loss:.4g}"
            raise self.error(step, words, rate)

    def error(self, step: int, what: str, rate: float) -> ToolError:
        """The error for a training that went wrong at `step`."""
        return ToolError(
            f"The training diverged at step {step}: {what}; the learning rate was {rate:.2g}.",
            hint=f"Lower {self._section}.learning_rate (try a third of it) or raise "
            f"{self._section}.warmup_steps.",
        )
