"""The text of a training: its sequences, and those that decide when it stops."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal

from bwdeploy.worker.calibration import TextRequest, token_sequences

if TYPE_CHECKING:
    from torch import Tensor

    from bwdeploy.pipeline.training_jobs import QuantizeTrained
    from bwdeploy.recipe.schema import Training


def training_text(request: QuantizeTrained, training: Training) -> tuple[Tensor, Tensor]:
    """Sequences to train on and to validate on, int64 [samples, seq_len] each; they share no document.

    Raises:
        RecipeError: the data set cannot be read or is too short.
    """
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(
        request.source, trust_remote_code=request.trust_remote_code
    )
    trained = token_sequences(_wanted(training, "training", training.samples), tokenizer)
    return trained, token_sequences(_wanted(training, "validation", training.validation_samples), tokenizer)


def _wanted(training: Training, part: Literal["training", "validation"], samples: int) -> TextRequest:
    return TextRequest(
        section="quantize.training",
        dataset=training.dataset,
        text_field=training.text_field,
        samples=samples,
        seq_len=training.seq_len,
        seed=training.seed,
        part=part,
        chat_template=training.chat_template,
    )
