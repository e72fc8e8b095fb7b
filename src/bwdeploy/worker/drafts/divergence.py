"""Tell a training that has diverged from one that is merely noisy."""

from __future__ import annotations

import math

from bwdeploy.errors import ToolError

_FACTOR = 2.0
_PATIENCE = 5


class LossWatch:
    """Looks at the mean loss every few steps."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._high = 0

    def check(self, step: int, loss: float, learning_rate: float) -> None:
        """Take note of the mean loss of the last few steps.

        Raises:
            ToolError: it is no number, or has stayed at twice its beginning.
        """
        if not math.isfinite(loss):
            raise _diverged(f"the loss is {loss}", step, learning_rate)
        if self._first is None:
            self._first = loss
        self._high = self._high + 1 if loss > _FACTOR * self._first else 0
        if self._high >= _PATIENCE:
            reason = f"the loss is {loss:.3g}, more than twice the {self._first:.3g} it began with"
            raise _diverged(reason, step, learning_rate)


def _diverged(reason: str, step: int, learning_rate: float) -> ToolError:
    return ToolError(
        f"The training of the draft diverged at step {step}: {reason} (learning rate {learning_rate:.2g}).",
        hint="Lower speculative.train.learning_rate (a third of it, say) or raise warmup_steps.",
    )
