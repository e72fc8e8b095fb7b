"""The text of a training: its sequences, and those that decide when it stops; they share no document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.worker.calibration import TextRequest, model_sequences

if TYPE_CHECKING:
    from torch import Tensor

    from bwdeploy.pipeline.training_jobs import QuantizeTrained
    from bwdeploy.recipe.schema import Training

_SECTION = "quantize.training"


def training_text(request: QuantizeTrained, training: Training) -> Tensor:
    """Sequences to train on, int64 [samples, seq_len].

    Raises:
        RecipeError: the data set cannot be read or is too short.
    """
    wanted = TextRequest.of(_SECTION, training, samples=training.samples, part="training")
    return model_sequences(request.source, wanted, trust_remote_code=request.trust_remote_code)


def validation_text(request: QuantizeTrained, training: Training) -> Tensor:
    """Sequences to validate on, int64 [validation_samples, seq_len].

    Raises:
        RecipeError: the data set cannot be read or is too short.
    """
    wanted = TextRequest.of(_SECTION, training, samples=training.validation_samples, part="validation")
    return model_sequences(request.source, wanted, trust_remote_code=request.trust_remote_code)
