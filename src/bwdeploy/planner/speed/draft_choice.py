"""Which draft length pays at which batch size, from acceptance lengths and timings of steps.

Each measured batch size gets its line t(k) = t0 + δ·k, beside which timed steps may stand as they are;
between two of them times are taken on a line, beyond the largest nothing is claimed. A draft length k then
brings AL(k) / t(k) tokens, so that of a batch the best length is the one with the least t(k) / AL(k), and
none (k = 0) when no draft beats the plain step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.planner.speed.draft_schedule import draft_schedule
from bwdeploy.planner.speed.step_costs import StepCost, best_length, step_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bwdeploy.planner.speed.steps import StepModel


class BatchTimes(NamedTuple):
    """Measured steps of one batch size."""

    batch_size: int
    step_ms: Mapping[int, float]
    """Draft length → milliseconds of one step; 0: without a draft."""


class DraftPoint(NamedTuple):
    """One draft length at one batch size."""

    draft_len: int
    acceptance_length: float
    step_ms: float
    tokens_per_s: float
    """Of all requests of the batch together."""
    speedup: float
    """Over the plain step."""


class BatchSpeed(NamedTuple):
    """Every draft length at one batch size that was measured."""

    batch_size: int
    cost: StepCost
    fit_error: float
    """Largest relative difference between a measured step and the line."""
    best_draft_len: int
    points: tuple[DraftPoint, ...]
    """From no draft upward."""


class DraftChoice(NamedTuple):
    """The draft lengths that pay."""

    draft_len: int
    """At the smallest batches; 0 when drafting never pays."""
    draft_len_schedule: dict[int, int]
    """Batch size from which on → draft length; begins at 1, never rises, ends in 0 where drafting stops."""
    stops_paying_at: int | None
    """The batch size from which on no draft is better; None: it pays at all that were measured."""
    batches: tuple[BatchSpeed, ...]
    """By batch size, ascending."""

    @property
    def first(self) -> BatchSpeed:
        """The smallest batch size, whose length is `draft_len`."""
        return self.batches[0]


def choose(
    lengths: Mapping[int, float],
    timings: Sequence[BatchTimes],
    cost_of: Callable[[Mapping[int, float]], StepCost] = step_cost,
) -> DraftChoice:
    """The draft length for each batch size.

    Args:
        lengths: Draft length → acceptance length (the model's own token counted).
        timings: One entry for each batch size, with steps of at least two draft lengths.
        cost_of: What the steps of a batch size cost by their timings: `step_cost`, a line through them, for
            figures of unknown precision; `timed_cost` for medians that were measured here.

    Raises:
        ValueError: no timings, too few of them, or steps whose line falls below zero.
    """
    if not timings:
        raise ValueError("a choice needs timings")
    known = {**lengths, 0: 1.0}
    costs = {one.batch_size: cost_of(one.step_ms) for one in sorted(timings)}
    for batch_size, cost in costs.items():
        _refuse_impossible(batch_size, cost, known)
    measured = {one.batch_size: one.step_ms for one in timings}
    batches = tuple(_batch_speed(size, cost, known, measured[size]) for size, cost in costs.items())
    return _choice(costs, known, batches)


def choose_by(lengths: Mapping[int, float], model: StepModel) -> DraftChoice:
    """The draft length where one step model is all that is known: the schedule is that length throughout.

    Raises:
        ValueError: a step takes no time.
    """
    known, cost = {**lengths, 0: 1.0}, StepCost(model, model.base_ms)
    _refuse_impossible(1, cost, known)
    return _choice({1: cost}, known, (_batch_speed(1, cost, known, {}),))


def choice_data(choice: DraftChoice) -> dict[str, Any]:
    """The choice as JSON data; speeds and times of the smallest batch stand at the top."""
    first = choice.first
    return {
        "draft_len": choice.draft_len,
        "speedup": [round(point.speedup, 6) for point in first.points if point.draft_len],
        "t0": round(first.cost.model.base_ms, 6),
        "delta": round(first.cost.model.per_token_ms, 6),
        "draft_len_schedule": {str(size): length for size, length in choice.draft_len_schedule.items()},
        "stops_paying_at": choice.stops_paying_at,
        "batches": [_batch_data(one) for one in choice.batches],
    }


def _batch_data(batch: BatchSpeed) -> dict[str, Any]:
    return {
        "batch_size": batch.batch_size,
        "t0": round(batch.cost.model.base_ms, 6),
        "delta": round(batch.cost.model.per_token_ms, 6),
        "plain_ms": round(batch.cost.step_ms(0), 6),
        "fit_error": round(batch.fit_error, 6),
        "best_draft_len": batch.best_draft_len,
        "points": [
            {name: round(value, 6) for name, value in point._asdict().items()} for point in batch.points
        ],
    }


def _refuse_impossible(batch_size: int, cost: StepCost, lengths: Iterable[int]) -> None:
    for draft_len in lengths:
        if not cost.step_ms(draft_len) > 0:
            raise ValueError(
                f"by their line a step with {draft_len} drafted tokens would take"
                f" {cost.step_ms(draft_len):.3g} ms at batch size {batch_size}"
            )


def _batch_speed(
    batch_size: int, cost: StepCost, lengths: Mapping[int, float], measured: Mapping[int, float]
) -> BatchSpeed:
    points = tuple(
        DraftPoint(
            draft_len=draft_len,
            acceptance_length=lengths[draft_len],
            step_ms=cost.step_ms(draft_len),
            tokens_per_s=1000 * batch_size * lengths[draft_len] / cost.step_ms(draft_len),
            speedup=lengths[draft_len] * cost.step_ms(0) / cost.step_ms(draft_len),
        )
        for draft_len in sorted(lengths)
    )
    errors = [abs(cost.line_ms(draft_len) / ms - 1) for draft_len, ms in measured.items()]
    return BatchSpeed(batch_size, cost, max(errors, default=0.0), best_length(cost, lengths), points)


def _choice(
    costs: Mapping[int, StepCost], lengths: Mapping[int, float], batches: tuple[BatchSpeed, ...]
) -> DraftChoice:
    schedule = draft_schedule(costs, lengths)
    stops = next((size for size, draft_len in schedule.items() if draft_len == 0), None)
    return DraftChoice(schedule[1], schedule, stops, batches)
