"""Speculative decoding as arithmetic: time of a step, tokens accepted in it, the draft length that pays most.

A step that drafts k tokens takes t(k) = t0 + δ·k and yields AL(k) tokens, the acceptance length with the
model's own token counted; one user then sees 1000 · AL / t tokens a second (t in milliseconds). Two timings
are enough for t0 and δ. Where timings and acceptance come from is the caller's concern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEAD_DRAFT = 1.15
"""An acceptance length below this says that the draft does not fit the model: one published draft accepted
1.04 with a wrong set-up, 2.9 with the right one
(hf.co/seanmamasde/llama4-maverick-17B-128E-eagle3-sglang)."""


class StepModel(NamedTuple):
    """Time of one step by the number of drafted tokens."""

    base_ms: float
    """t0: without drafting."""
    per_token_ms: float
    """δ: for each drafted token."""

    def step_ms(self, draft_len: int) -> float:
        """t(k) in milliseconds."""
        return self.base_ms + self.per_token_ms * draft_len

    def tokens_per_s(self, draft_len: int, acceptance_length: float) -> float:
        """What one user sees."""
        return 1000 * acceptance_length / self.step_ms(draft_len)


def fit_steps(step_ms: Mapping[int, float]) -> StepModel:
    """The least squares line through the timings of steps (draft length → milliseconds).

    Raises:
        ValueError: fewer than two draft lengths.
    """
    if len(step_ms) < 2:  # noqa: PLR2004 - a line has two ends
        raise ValueError("a step model needs timings at two draft lengths")
    mean_k = sum(step_ms) / len(step_ms)
    mean_t = sum(step_ms.values()) / len(step_ms)
    slope = sum((k - mean_k) * (t - mean_t) for k, t in step_ms.items()) / sum(
        (k - mean_k) ** 2 for k in step_ms
    )
    return StepModel(mean_t - slope * mean_k, slope)


def step_ms_of(tokens_per_s: float, acceptance_length: float) -> float:
    """The time of a step behind a speed that somebody published, in milliseconds."""
    return 1000 * acceptance_length / tokens_per_s


def acceptance_lengths(rates: Iterable[float]) -> dict[int, float]:
    """Acceptance length by draft length, from the acceptance rate of each position.

    A rate is the share of steps in which the draft's token at that position is right, given that all before
    it were: AL(k) = 1 + Σ_{j ≤ k} Π_{i ≤ j} rate_i.
    """
    lengths = {0: 1.0}
    reached = 1.0
    for position, rate in enumerate(rates, start=1):
        reached *= rate
        lengths[position] = lengths[position - 1] + reached
    return lengths


def best_draft_len(model: StepModel, lengths: Mapping[int, float]) -> int:
    """The draft length with the highest speed of one user; the shorter of two equal ones."""
    return max(sorted(lengths), key=lambda k: (model.tokens_per_s(k, lengths[k]), -k))
