"""What a step costs at one batch size, and between two that were measured.

A step that drafts k tokens takes t0 + δ·k; without a draft it may be faster than that line says. A step that
was timed here can count as it was timed: real steps go in stairs, and near the best length, where speeds are
flat, a line that is 2 % off names the wrong one.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.speed.steps import StepModel, fit_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

OFF_THE_LINE = 0.05
"""A plain step this far from the line of its fit is not on it: drafting has a cost of its own that does not
grow with the length, and then the line goes through the drafted lengths alone. The published steps of
DeepSeek-R1 lie within 1.5 % of one line, plain ones included."""


class StepCost(NamedTuple):
    """What a step costs at one batch size."""

    model: StepModel
    plain_ms: float
    """By the line, without a draft: t0 of the model, or as measured where it does not lie on that line."""
    timed: Mapping[int, float] = MappingProxyType({})
    """Steps that are taken as they were timed, not by the line: draft length → milliseconds."""

    def line_ms(self, draft_len: int) -> float:
        """Time of a step by the line, in milliseconds."""
        return self.model.step_ms(draft_len) if draft_len else self.plain_ms

    def step_ms(self, draft_len: int) -> float:
        """Time of a step in milliseconds."""
        return self.timed.get(draft_len, self.line_ms(draft_len))

    def per_token_ms(self, draft_len: int, acceptance_length: float) -> float:
        """Milliseconds for each token of one request."""
        return self.step_ms(draft_len) / acceptance_length


def step_cost(step_ms: Mapping[int, float]) -> StepCost:
    """The least squares line through the steps of one batch size (draft length → milliseconds).

    Raises:
        ValueError: fewer than two draft lengths.
    """
    model = _rising(step_ms)
    drafted = {draft_len: ms for draft_len, ms in step_ms.items() if draft_len}
    plain_ms = step_ms.get(0, model.base_ms)
    on_the_line = abs(model.base_ms / plain_ms - 1) <= OFF_THE_LINE
    if on_the_line or len(drafted) < 2:  # noqa: PLR2004 - a line has two ends
        return StepCost(model, model.base_ms)
    line = fit_steps(drafted)
    # drafted lengths that get faster as they grow are noise: the plain step is what tells the slope then
    return StepCost(line if line.per_token_ms > 0 else model, plain_ms)


def timed_cost(step_ms: Mapping[int, float]) -> StepCost:
    """As `step_cost`, but the steps that were timed count as they are; the line is for the others.

    Raises:
        ValueError: fewer than two draft lengths.
    """
    return step_cost(step_ms)._replace(timed=dict(step_ms))


def cost_at(costs: Mapping[int, StepCost], batch_size: int) -> StepCost:
    """On the line between the two nearest measured batch sizes; outside them, the nearest."""
    if batch_size in costs:
        return costs[batch_size]
    below = max((size for size in costs if size < batch_size), default=min(costs))
    above = min((size for size in costs if size > batch_size), default=max(costs))
    if below >= above:
        return costs[below]
    share = (batch_size - below) / (above - below)
    low, high = costs[below], costs[above]

    def between(one: float, other: float) -> float:
        return one + share * (other - one)

    model = StepModel(
        between(low.model.base_ms, high.model.base_ms),
        between(low.model.per_token_ms, high.model.per_token_ms),
    )
    timed = {
        draft_len: between(low.step_ms(draft_len), high.step_ms(draft_len))
        for draft_len in low.timed.keys() | high.timed.keys()
    }
    return StepCost(model, between(low.plain_ms, high.plain_ms), timed)


def best_length(cost: StepCost, lengths: Mapping[int, float]) -> int:
    """The draft length with the most tokens a second; the shorter of two equal ones."""
    return min(sorted(lengths), key=lambda draft_len: cost.per_token_ms(draft_len, lengths[draft_len]))


def _rising(step_ms: Mapping[int, float]) -> StepModel:
    """A line that does not fall: a step with more drafted tokens is not faster, but for noise."""
    model = fit_steps(step_ms)
    if model.per_token_ms >= 0:
        return model
    return StepModel(math.fsum(step_ms.values()) / len(step_ms), 0.0)
