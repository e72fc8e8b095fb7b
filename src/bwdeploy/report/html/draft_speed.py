"""What a measured draft is predicted to bring, beside what was measured: gain, speed, step times."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.report.draft_measurement import gains_in_runs
from bwdeploy.report.html.blocks import Heading, Note, Picture, Table
from bwdeploy.report.html.figures.draft_speed import draw_speed_by_batch, draw_speed_by_length
from bwdeploy.report.html.numbers import ABSENT, percent, rounded, speed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.pipeline.training_jobs import DraftAcceptance, StepTiming
    from bwdeploy.planner.speed.draft_choice import BatchSpeed, DraftChoice
    from bwdeploy.report.html.blocks import Block, Cell

_USUAL_LENGTH = 3
"""Whose drafting is held against the target's step, as in published figures."""


def speed_blocks(choice: DraftChoice, measured: DraftAcceptance | None) -> Iterator[Block]:
    """The advice, then the pictures and tables it rests on."""
    yield Heading("What the draft brings")
    yield Note(_advice(choice), "good" if choice.draft_len else "warn")
    yield _length_picture(choice, measured)
    if len(choice.batches) > 1:
        yield _batch_picture(choice)
    yield _step_table(choice, measured)
    if measured is not None and measured.runs:
        yield _run_table(measured)


def _advice(choice: DraftChoice) -> str:
    if not choice.draft_len:
        return "Drafting does not pay on the machine that measured, not even for one request."
    lengths = sorted(choice.draft_len_schedule.items())
    schedule = ", ".join(f"{length or 'none'} from batch {batch} on" for batch, length in lengths)
    if choice.stops_paying_at is None:
        stop = "Drafting pays at every batch size that was timed."
    else:
        stop = f"From batch {choice.stops_paying_at} on it no longer pays."
    return f"Fastest for one request: {choice.draft_len} drafted tokens. By batch size: {schedule}. {stop}"


def _length_picture(choice: DraftChoice, measured: DraftAcceptance | None) -> Picture:
    return Picture(
        "speed-by-length",
        "Predicted gain against draft length",
        "Speed with so many drafted tokens over the speed without a draft, from the step time and the"
        " acceptance that were measured; a line for each batch size, its best length marked with a star.",
        partial(
            draw_speed_by_length,
            speedups={
                one.batch_size: {point.draft_len: point.speedup for point in one.points}
                for one in choice.batches
            },
            best={one.batch_size: one.best_draft_len for one in choice.batches},
            measured=list(gains_in_runs(measured).items()) if measured is not None else [],
        ),
        height=3.6,
    )


def _batch_picture(choice: DraftChoice) -> Picture:
    points = [(one.batch_size, point) for one in choice.batches for point in one.points]
    best = {one.batch_size: one.best_draft_len for one in choice.batches}
    lengths = [point.draft_len for point in choice.first.points if point.draft_len]
    return Picture(
        "speed-by-batch",
        "Predicted speed against batch size",
        "Tokens a second of all requests together on the machine that measured, without a draft and with the"
        " best length of each batch; and how much faster each length is than no draft.",
        partial(
            draw_speed_by_batch,
            plain=[(size, point.tokens_per_s) for size, point in points if not point.draft_len],
            best=[(size, point.tokens_per_s) for size, point in points if point.draft_len == best[size]],
            gains={
                length: [(size, point.speedup) for size, point in points if point.draft_len == length]
                for length in lengths
            },
            stops_paying_at=choice.stops_paying_at,
        ),
        height=4.0,
    )


def _step_table(choice: DraftChoice, measured: DraftAcceptance | None) -> Table:
    drafted = min(_USUAL_LENGTH, max(point.draft_len for point in choice.first.points))
    timings = {one.batch_size: one for one in measured.timings} if measured is not None else {}
    return Table(
        "Step times and the best length of each batch size",
        (
            "Batch",
            "No draft",
            "Step, t0",
            "Each drafted token, δ",
            "Fit off by",
            f"Drafting {drafted} / target step",
            "Best length",
            "Gain",
            "Tokens/s",
        ),
        tuple(_step_cells(one, timings.get(one.batch_size), drafted) for one in choice.batches),
        texts=frozenset(),
    )


def _step_cells(batch: BatchSpeed, timing: StepTiming | None, drafted: int) -> tuple[Cell, ...]:
    best = next(point for point in batch.points if point.draft_len == batch.best_draft_len)
    share = drafted * timing.draft_ms / timing.target_ms if timing and timing.target_ms else None
    return (
        str(batch.batch_size),
        f"{batch.cost.step_ms(0):.2f} ms",
        f"{batch.cost.model.base_ms:.2f} ms",
        f"{batch.cost.model.per_token_ms:.3f} ms",
        percent(batch.fit_error),
        percent(share) if share is not None else ABSENT,
        str(best.draft_len),
        f"{best.speedup:.2f} times",
        speed(best.tokens_per_s),
    )


def _run_table(measured: DraftAcceptance) -> Table:
    gains = gains_in_runs(measured)
    return Table(
        "Real speculative decoding, one request at a time, timed from outside",
        ("Draft length", "Tokens/s", "Against no draft", "Acceptance length"),
        tuple(
            (
                str(run.draft_len),
                speed(run.tokens_per_s),
                f"{gains[run.draft_len]:.2f} times" if gains else ABSENT,
                rounded(run.acceptance_length),
            )
            for run in measured.runs
        ),
        texts=frozenset(),
    )
