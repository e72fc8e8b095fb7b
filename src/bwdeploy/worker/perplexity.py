"""Perplexity of a causal language model on fixed token sequences.

Models are measured one after another, never together; two of them beside each other are `accuracy.text`.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.worker.next_token import POSITIONS_PER_CHUNK, NextToken, batches_of, cut_at_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_LARGEST_LIKELIHOOD = 700.0
"""Nats: exp of more is no number of a computer."""


def perplexity(model: Any, sequences: Tensor, on_batch: Callable[[int, int], None]) -> float:  # noqa: ANN401
    """Exponential of the mean negative log likelihood of every token but each sequence's first.

    `sequences` is int64 [samples, seq_len]; `on_batch(done, total)` is called before each batch.
    """
    torch = import_module("torch")
    batches, halves = batches_of(sequences), cut_at_head(model)
    total = 0.0
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            on_batch(number, len(batches))
            total += _negative_log_likelihood(halves, batch.to(model.device))
    on_batch(len(batches), len(batches))
    return perplexity_of(total / (sequences.shape[0] * (sequences.shape[1] - 1)))


def perplexity_of(likelihood: float) -> float:
    """Of a mean negative log likelihood, in nats; NaN of one that is not finite."""
    return math.exp(min(likelihood, _LARGEST_LIKELIHOOD)) if math.isfinite(likelihood) else math.nan


def _negative_log_likelihood(halves: NextToken, batch: Tensor) -> float:
    functional = import_module("torch").nn.functional
    features, targets = halves.features(batch), batch[:, 1:].flatten()
    chunks = zip(features.split(POSITIONS_PER_CHUNK), targets.split(POSITIONS_PER_CHUNK), strict=True)
    return sum(
        float(functional.cross_entropy(halves.logits(part), target, reduction="sum"))
        for part, target in chunks
    )
