"""The loss of a draft: cross-entropy with the target's distribution, without ever holding all logits.

ModelOpt's own loss keeps softmax and log-softmax of [batch, sequence, vocabulary] in float32 for each
unrolled step. Here the draft's head and the loss run over a few rows at a time, on answer rows only, and
their gradient is computed in the same pass (as fused linear cross-entropy kernels do), so that memory does
not grow with vocabulary × tokens. The value is ModelOpt's; a test holds one against the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_ELEMENTS = 2**25
"""Logits in one chunk: 128 MiB in float32."""


def distillation_loss(
    hidden: Tensor, head: Tensor, target: Tensor, weights: Tensor, vocabulary: Tensor | None = None
) -> Tensor:
    """Σ weights[s, n] · H(softmax(target[n]), softmax(head · hidden[s, n])), a scalar in float32.

    hidden: [steps, n, width] before the head; head: [draft vocabulary, width]; target: logits
    [n, target vocabulary]; weights: [steps, n]; vocabulary: the target's token of each draft token, where
    the draft has fewer. Gradients go to `hidden` and `head`.
    """
    loss: Tensor = _Distillation.apply(hidden, head, target, weights, vocabulary)
    return loss


class _Distillation(torch.autograd.Function):  # type: ignore[misc]
    """Forward computes value and gradients; backward scales the latter."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:  # noqa: ANN401 - torch's signature
        hidden, head, target, weights, vocabulary = inputs
        matrix = head.to(hidden.dtype)
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for rows in _chunks(hidden.shape[1], head.shape[0]):
            wanted = _probabilities(target[rows], vocabulary)
            for step in range(hidden.shape[0]):
                part, weight = hidden[step, rows], weights[step, rows]
                logs = torch.log_softmax((part @ matrix.T).float(), dim=-1)
                # H(p, q) = -Σ p log q, and its gradient with respect to the logits is q - p.
                loss -= (weight * (wanted * logs).sum(-1)).sum()
                slope = logs.exp_().sub_(wanted).mul_(weight[:, None]).to(hidden.dtype)
                hidden_gradient[step, rows] = slope @ matrix
                head_gradient += slope.T @ part
        ctx.save_for_backward(hidden_gradient, head_gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's signature
        hidden, head = ctx.saved_tensors
        return gradients[0] * hidden, gradients[0] * head, None, None, None


def greedy_tokens(hidden: Tensor, head: Tensor, vocabulary: Tensor | None = None) -> Tensor:
    """The target's token that the draft finds most likely, int64 [steps, n]; arguments as above."""
    matrix = head.to(hidden.dtype)
    chosen = torch.empty(hidden.shape[:2], dtype=torch.int64, device=hidden.device)
    for rows in _chunks(hidden.shape[1], head.shape[0]):
        chosen[:, rows] = (hidden[:, rows] @ matrix.T).argmax(-1)
    return chosen if vocabulary is None else vocabulary[chosen]


def _probabilities(logits: Tensor, vocabulary: Tensor | None) -> Tensor:
    kept = logits if vocabulary is None else logits.index_select(1, vocabulary)
    return torch.softmax(kept.float(), dim=-1)


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, _CHUNK_ELEMENTS // vocabulary)
    return [slice(start, min(rows, start + size)) for start in range(0, rows, size)]
