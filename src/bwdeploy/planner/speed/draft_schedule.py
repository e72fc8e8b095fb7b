"""The schedule of draft lengths over batch sizes: from which batch size on which length, and when none."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from bwdeploy.planner.speed.step_costs import best_length, cost_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.planner.speed.step_costs import StepCost

_FOR_THE_FIRST = 0.01
"""Speed that the best length of the smallest batch may cost, on average over the batch sizes: it is what one
user sees and what is held against real runs, and timings are not better than that."""


def draft_schedule(costs: Mapping[int, StepCost], lengths: Mapping[int, float]) -> dict[int, int]:
    """The schedule that loses least of the speed of the best length at each batch size, and never rises.

    Where the best lengths fall by themselves it is they. Where noise in the timings lets one rise, the loss
    is counted (in logarithms of speed) at every batch size that was measured or where the best one changes,
    and of schedules that are nearly as good the one with the best length of the smallest batch is taken.
    """
    sizes = sorted({1, *costs, *_changes(costs, lengths)})
    shorter_first = sorted(lengths)
    kept: dict[int, tuple[float, tuple[int, ...]]] = dict.fromkeys(shorter_first, (0.0, ()))
    for size in reversed(sizes):
        cost = cost_at(costs, size)
        best = best_length(cost, lengths)
        best_rest: tuple[float, tuple[int, ...]] = (math.inf, ())
        for draft_len in shorter_first:  # what follows is as long or shorter
            best_rest = min(best_rest, kept[draft_len], key=lambda rest: rest[0])
            loss = math.log(
                cost.per_token_ms(draft_len, lengths[draft_len]) / cost.per_token_ms(best, lengths[best])
            )
            kept[draft_len] = (loss + best_rest[0], (draft_len, *best_rest[1]))
    best_loss, chosen = min((kept[draft_len] for draft_len in shorter_first), key=lambda one: one[0])
    loss_with_first, with_first = kept[best_length(cost_at(costs, sizes[0]), lengths)]
    if loss_with_first - best_loss <= _FOR_THE_FIRST * len(sizes):
        chosen = with_first
    steps = zip((None, *chosen), chosen, sizes, strict=False)
    return {size: draft_len for before, draft_len, size in steps if draft_len != before}


def _changes(costs: Mapping[int, StepCost], lengths: Mapping[int, float]) -> Iterator[int]:
    """Every batch size at which another draft length becomes the best."""
    pending = list(pairwise(sorted(costs)))
    while pending:
        low, high = pending.pop()
        # t(k) / AL(k) are lines of the batch size here: the best at both ends is the best between
        if best_length(cost_at(costs, low), lengths) == best_length(cost_at(costs, high), lengths):
            continue
        if high - low == 1:
            yield high
            continue
        middle = (low + high) // 2
        pending += [(low, middle), (middle, high)]
