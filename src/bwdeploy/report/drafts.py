"""A choice of the draft length as text and as JSON (`draft measure`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.planner.speed.draft_choice import choice_data
from bwdeploy.report.tables import aligned
from bwdeploy.report.wrapping import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.planner.speed.draft_choice import BatchSpeed, DraftChoice

_POOR_FIT = 0.1
"""Beyond a tenth the line says little about a step; the published ladder of DeepSeek-R1 is within 3 %."""


def choice_json(choice: DraftChoice) -> dict[str, Any]:
    """The contract of `draft measure --json` without a model: draft_len, speedup, t0, delta, the schedule."""
    lengths = [point.acceptance_length for point in choice.first.points if point.draft_len]
    return {**choice_data(choice), "acceptance_length": lengths}


def choice_text(choice: DraftChoice) -> str:
    """The choice for a person: the length, the speed at each length, the schedule over batch sizes."""
    first = choice.first
    lines = [choice_headline(choice), "", *_speed_table(first, choice.draft_len)]
    if len(choice.batches) > 1:
        lines += ["", *_batch_table(choice)]
    lines += ["", *wrapped(f"schedule: {_schedule_words(choice)}", indent=0, hanging=2)]
    lines += [line for note in _notes(choice) for line in wrapped(f"note: {note}", indent=0, hanging=2)]
    return "\n".join(lines)


def choice_headline(choice: DraftChoice) -> str:
    """The chosen length and what it gains, in a line."""
    model = choice.first.cost.model
    step = f"t0 {model.base_ms:.4g} ms, {model.per_token_ms:.3g} ms more for each drafted token"
    if choice.draft_len == 0:
        return f"draft length 0: drafting does not pay ({step})"
    gain = next(one.speedup for one in choice.first.points if one.draft_len == choice.draft_len)
    return f"draft length {choice.draft_len}: {gain:.2f} times the speed without drafts ({step})"


def _speed_table(batch: BatchSpeed, chosen: int) -> list[str]:
    rows = [
        (
            f"{'→ ' if point.draft_len == chosen else ''}{point.draft_len}",
            f"{point.acceptance_length:.2f}",
            f"{point.step_ms:.2f}",
            f"{point.tokens_per_s:,.1f}",
            f"{point.speedup:.2f}",
        )
        for point in batch.points
    ]
    return aligned(("drafted", "gained in a step", "step ms", "tokens/s", "speed-up"), rows)


def _batch_table(choice: DraftChoice) -> list[str]:
    """Tokens of all requests a second, without drafts and with the best length of each batch size."""
    rows = []
    for batch in choice.batches:
        by_length = {point.draft_len: point for point in batch.points}
        best = by_length[batch.best_draft_len]
        rows.append(
            (
                f"{batch.batch_size:,}",
                f"{batch.cost.step_ms(0):.2f}",
                f"{batch.cost.model.per_token_ms:.3f}",
                f"{by_length[0].tokens_per_s:,.0f}",
                str(batch.best_draft_len),
                f"{best.tokens_per_s:,.0f}",
                f"{best.speedup:.2f}",
                f"{batch.fit_error:.1%}",
            )
        )
    headings = ("batch", "plain ms", "δ ms", "tokens/s plain", "best length", "tokens/s", "speed-up", "fit")
    return aligned(headings, rows)


def _schedule_words(choice: DraftChoice) -> str:
    if choice.draft_len == 0:
        return "no drafts at any batch size"
    parts = [
        f"{length or 'none'} from batch size {size:,} on"
        for size, length in choice.draft_len_schedule.items()
    ]
    said = "draft length " + ", ".join(parts)
    largest = choice.batches[-1].batch_size
    if len(choice.batches) == 1:
        return f"{said}; timings of several batch sizes would tell from where on it should be shorter"
    if choice.stops_paying_at is None:
        return f"{said}; drafting pays up to batch size {largest:,}, the largest that was timed"
    return f"{said}; drafting stops paying from batch size {choice.stops_paying_at:,} on"


def _notes(choice: DraftChoice) -> Iterator[str]:
    poor = [one for one in choice.batches if one.fit_error > _POOR_FIT]
    if poor:
        worst = max(poor, key=lambda one: one.fit_error)
        yield (
            f"steps at batch size {worst.batch_size:,} are up to {worst.fit_error:.0%} off their line: look"
            " at the timings before you rely on the choice"
        )
    first = choice.first
    if choice.draft_len == max(one.draft_len for one in first.points):
        yield "the longest length of the table is the fastest: a still longer one could be faster"
