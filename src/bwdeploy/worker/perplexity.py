"""Perplexity of a causal language model on fixed token sequences.

The output head is applied to a few hundred positions at a time, because the logits of a whole batch are
larger than the model for big vocabularies. Models are measured one after another, never together.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_TOKENS_PER_BATCH = 1024
_POSITIONS_PER_CHUNK = 256


def perplexity(model: Any, sequences: Tensor, on_batch: Callable[[int, int], None]) -> float:  # noqa: ANN401
    """Exponential of the mean negative log likelihood of every token but each sequence's first.

    `sequences` is int64 [samples, seq_len]; `on_batch(done, total)` is called before each batch.
    """
    torch = import_module("torch")
    batches = sequences.split(max(1, _TOKENS_PER_BATCH // sequences.shape[1]))
    total = 0.0
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            on_batch(number, len(batches))
            total += _negative_log_likelihood(model, batch.to(model.device))
    on_batch(len(batches), len(batches))
    mean = total / (sequences.shape[0] * (sequences.shape[1] - 1))
    return math.exp(mean) if math.isfinite(mean) else math.nan


def _negative_log_likelihood(model: Any, batch: Tensor) -> float:  # noqa: ANN401
    functional = import_module("torch").nn.functional
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
        return float(
            functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="sum")
        )
    hidden = model.base_model(input_ids=batch, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
    targets = batch[:, 1:].flatten()
    return sum(
        float(functional.cross_entropy(_logits(model, head, part), target, reduction="sum"))
        for part, target in zip(
            hidden.split(_POSITIONS_PER_CHUNK), targets.split(_POSITIONS_PER_CHUNK), strict=True
        )
    )


def _logits(model: Any, head: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    """Output head in float32, with the scalings that some families apply to it (Gemma, Granite, Cohere)."""
    logits = head(hidden).float()
    config = model.config
    logits = logits * (getattr(config, "logit_scale", None) or 1.0)
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return (logits / cap).tanh() * cap if cap else logits
