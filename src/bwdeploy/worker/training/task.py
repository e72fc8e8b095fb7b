"""What a training is given: text, teacher, state, and the figure that decides about its best step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bwdeploy.pipeline.jobs import Progress
    from bwdeploy.recipe.schema import Training
    from bwdeploy.worker.training.state import TrainingState
    from bwdeploy.worker.training.validation import Measured, Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that a training needs beside the model."""

    training: Training
    sequences: Tensor
    """int64 [samples, seq_len]."""
    validation: Validation
    teacher: Any
    """The unquantized model that the student shall follow; None: the text itself is the aim."""
    state: TrainingState
    device: str
    report: Callable[[Progress], None]

    @property
    def metric(self) -> str:
        """What decides about the best step."""
        return "perplexity" if self.teacher is None else "kl_divergence"

    def figure(self, measured: Measured) -> float:
        """The deciding figure of a validation."""
        value = measured.perplexity if self.teacher is None else measured.kl_divergence
        return math.nan if value is None else value
