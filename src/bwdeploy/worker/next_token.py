"""A causal language model cut at its output head: what comes before it, and the logits from that.

The logits of a whole batch are larger than the model for big vocabularies; with the cut they are made for a
few hundred positions at a time, and the head of one model can outlive its layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TOKENS_PER_BATCH = 1024
POSITIONS_PER_CHUNK = 256


class NextToken(NamedTuple):
    """The two halves; `logits` holds nothing of the model but its head."""

    features: Callable[[Tensor], Tensor]
    """int64 [samples, seq_len] → [samples · (seq_len - 1), width]: what predicts each token but the first."""
    logits: Callable[[Tensor], Tensor]
    """[positions, width] → float32 [positions, vocabulary]."""


def cut_at_head(model: Any) -> NextToken:  # noqa: ANN401 - a transformers model
    """Cut `model`; one without a head of its own gives its logits as features."""
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return NextToken(lambda batch: _whole(model, batch), lambda logits: logits.float())
    return NextToken(lambda batch: _before_head(model, batch), _scaled_head(head, model.config))


def batches_of(sequences: Tensor) -> tuple[Tensor, ...]:
    """int64 [samples, seq_len] in batches of about a thousand tokens."""
    return tuple(sequences.split(max(1, TOKENS_PER_BATCH // sequences.shape[1])))


def _whole(model: Any, batch: Tensor) -> Tensor:  # noqa: ANN401
    logits: Tensor = model(input_ids=batch, use_cache=False).logits[:, :-1]
    return logits.flatten(0, 1)


def _before_head(model: Any, batch: Tensor) -> Tensor:  # noqa: ANN401
    hidden: Tensor = model.base_model(input_ids=batch, use_cache=False).last_hidden_state[:, :-1]
    return hidden.flatten(0, 1)


def _scaled_head(head: Any, config: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    """Output head in float32, with the scalings that some families apply to it (Gemma, Granite, Cohere)."""
    factor = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)

    def logits(features: Tensor) -> Tensor:
        scaled: Tensor = head(features).float() * factor
        return (scaled / cap).tanh() * cap if cap else scaled

    return logits
