"""The text of a training: its sequences, and those that decide when it stops; they share no document."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bwdeploy.worker.calibration import TextRequest, model_sequences

if TYPE_CHECKING:
    from torch import Tensor

    from bwdeploy.pipeline.training_jobs import QuantizeTrained
    from bwdeploy.recipe.schema import Training

_SECTION = "quantize.training"
_COMPARED = 256
"""Sequences. Read back on an H100, one of SmolLM2-135M in NVFP4 has another perplexity by 4.5 % (standard
deviation, up or down): 16 together tell no better than 1 %, these 0.3 %."""


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


def compared_text(request: QuantizeTrained, training: Training) -> Tensor:
    """Sequences on which the export is held against the training: those of validation come first.

    A CPU computes both alike. A GPU does not: text of the training is added, to tell rounding from loss.
    """
    held_out = validation_text(request, training)
    missing = _COMPARED - len(held_out)
    if request.device == "cpu" or missing <= 0:
        return held_out
    few = training.model_copy(update={"samples": min(training.samples, missing)})
    joined: Tensor = import_module("torch").cat((held_out, training_text(request, few)))
    return joined
