"""How drafted tokens are proposed and accepted: greedily, or by exact speculative sampling.

Both rules work on whole batches and leave every decision on the device. Sampling keeps the target's own
distribution: a token drawn from the draft's q is accepted with probability min(1, p/q), and the first refused
one is replaced by a draw from max(p - q, 0), normalized. Source: Leviathan, Kalman, Matias, "Fast Inference
from Transformers via Speculative Decoding", algorithm 1 (2023).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_TINY = 1e-12


class Rule(Protocol):
    """What is drafted, and what of it the target takes."""

    keeps_probabilities: bool
    """Whether `verify` needs what `propose` drew from."""

    def propose(self, logits: Tensor, to_target: Tensor | None, vocabulary: int) -> tuple[Tensor, Tensor]:
        """A token of the target for each row, int64 [rows], and what it was drawn from [rows, vocabulary].

        `logits` are the draft's, [rows, drafted vocabulary]; `to_target` maps its tokens to the target's.
        """

    def verify(self, logits: Tensor, drafts: Tensor, drawn_from: Tensor) -> tuple[Tensor, Tensor]:
        """The new tokens, int64 [rows, k + 1], of which accepted + 1 count, and accepted, int64 [rows].

        `logits` are the target's [rows, k + 1, vocabulary] after the last token and after each of `drafts`
        [rows, k]; `drawn_from` is [rows, k, vocabulary] where probabilities are kept.
        """


class Greedy:
    """Both models take their most likely token; the output is that of the target alone."""

    keeps_probabilities = False

    def propose(self, logits: Tensor, to_target: Tensor | None, vocabulary: int) -> tuple[Tensor, Tensor]:
        """See `Rule`; nothing is kept."""
        del vocabulary
        return _mapped(logits.argmax(dim=-1), to_target), logits

    def verify(self, logits: Tensor, drafts: Tensor, drawn_from: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rule`: accepted is what the target would have said itself."""
        del drawn_from
        own = logits.argmax(dim=-1)
        return own, _leading(own[:, :-1] == drafts)


class Sampled:
    """Both models sample at one temperature; the output has the target's distribution."""

    keeps_probabilities = True

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def propose(self, logits: Tensor, to_target: Tensor | None, vocabulary: int) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        drawn_from = self._probabilities(logits)
        token = _mapped(_draw(drawn_from), to_target)
        if to_target is None:
            return token, drawn_from
        whole = drawn_from.new_zeros((*drawn_from.shape[:-1], vocabulary))
        return token, whole.index_copy(-1, to_target, drawn_from)

    def verify(self, logits: Tensor, drafts: Tensor, drawn_from: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        wanted = self._probabilities(logits)
        drafted = drafts[..., None]
        wanted_of_drafts = wanted[:, :-1].gather(-1, drafted)[..., 0]
        drawn_of_drafts = drawn_from.gather(-1, drafted)[..., 0]
        luck = torch.rand_like(drawn_of_drafts)
        accepted = _leading(luck * drawn_of_drafts < wanted_of_drafts)
        last = self._last(wanted, drawn_from, accepted)
        new = torch.cat((drafts, last[:, None]), dim=1)
        return new.scatter(1, accepted[:, None], last[:, None]), accepted

    def _last(self, wanted: Tensor, drawn_from: Tensor, accepted: Tensor) -> Tensor:
        """The token after the accepted: from the residual where one was refused, else from the target."""
        at = accepted[:, None, None].expand(-1, 1, wanted.shape[-1])
        nothing = torch.zeros_like(wanted[:, :1])
        refused = torch.cat((drawn_from, nothing), dim=1).gather(1, at)[:, 0]
        own = wanted.gather(1, at)[:, 0]
        residual = (own - refused).clamp(min=0)
        # Rounding can refuse a token of two equal distributions, which leave no residual.
        empty = residual.sum(dim=-1, keepdim=True) < _TINY
        return _draw(torch.where(empty, own, residual))

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits.float() / self._temperature, dim=-1)


def _draw(weights: Tensor) -> Tensor:
    """One index for each row, with probability proportional to its weight.

    The smallest of exponential times with these rates; unlike torch.multinomial it never checks its input.
    """
    times = torch.empty_like(weights).exponential_()
    return (weights / times.clamp(min=_TINY)).argmax(dim=-1)


def _leading(accepted: Tensor) -> Tensor:
    """How many are true before the first that is not, int64 [rows]."""
    return accepted.to(torch.int64).cumprod(dim=1).sum(dim=1)


def _mapped(tokens: Tensor, to_target: Tensor | None) -> Tensor:
    return tokens if to_target is None else to_target[tokens]
