"""Drafts as a picture: acceptance and speed over the draft length, tokens a second over the batch size.

PNG or SVG by the file's suffix, as in `plot`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.draft_measurement import gains_in_runs
from bwdeploy.report.plot import check_plot_file, new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import DraftAcceptance, LengthAcceptance
    from bwdeploy.planner.speed.draft_choice import DraftChoice
    from bwdeploy.report.draft_sweep import SweptDraft

_PANEL_INCHES = (5.2, 4.4)
_MOST_LINES = 6
"""Batch sizes drawn at most: more lines than that are not told apart."""


def write_draft_plot(
    choice: DraftChoice, file: Path, *, title: str, measured: DraftAcceptance | None = None
) -> None:
    """Draw a choice, and what was measured for it, into `file`.

    Raises:
        RecipeError, HostError, StoreError: as `plot.check_plot_file`.
    """
    check_plot_file(file)
    several = len(choice.batches) > 1
    width, height = _PANEL_INCHES
    figure = new_figure((width * (3 if several else 2), height))
    panels = figure.subplots(1, 3 if several else 2)
    figure.suptitle(_plain(title), fontsize=11)
    _draw_acceptance(panels[0], choice, measured)
    _draw_speed(panels[1], choice, measured)
    if several:
        _draw_batches(panels[2], choice)
    save_figure(figure, file)


def write_sweep_plot(drafts: Sequence[SweptDraft], file: Path, *, title: str) -> None:
    """Draw drafts of several widths into `file`: acceptance and gain against the cost of drafting.

    Raises:
        RecipeError, HostError, StoreError: as `plot.check_plot_file`.
    """
    check_plot_file(file)
    width, height = _PANEL_INCHES
    figure = new_figure((width * 2, height))
    left, right = figure.subplots(1, 2)
    figure.suptitle(_plain(title), fontsize=11)
    for one in drafts:
        cost = one.measured.timings[0].draft_ms
        length = one.compared.length
        error = [[length.value - length.low], [length.high - length.value]]
        left.errorbar([cost], [length.value], yerr=error, marker="o", capsize=3, label=f"{one.ffn_width:,}")
        right.plot([cost], [one.best.speedup], marker="o", linestyle="none", label=f"{one.ffn_width:,}")
        for axes, value in ((left, length.value), (right, one.best.speedup)):
            axes.annotate(f"{one.ffn_width:,}", (cost, value), xytext=(7, 5), textcoords="offset points")
    left.set_ylabel(f"tokens gained in a step, {drafts[0].compared.draft_len} drafted (95 % interval)")
    right.set_ylabel("speed-up at the best draft length, one user")
    for axes in (left, right):
        axes.set_xlabel("ms of drafting one token; numbers are FFN widths")
        axes.grid(visible=True, alpha=0.3)
    save_figure(figure, file)


def _draw_acceptance(axes: Any, choice: DraftChoice, measured: DraftAcceptance | None) -> None:  # noqa: ANN401 - matplotlib
    """Tokens gained in a step: as given, or as measured with intervals, each workload and sampled."""
    if measured is None:
        points = choice.first.points
        axes.plot(
            [one.draft_len for one in points],
            [one.acceptance_length for one in points],
            marker="o",
            label="given",
        )
    else:
        _draw_measured(axes, measured)
    axes.set_xlabel("draft length")
    axes.set_xticks([one.draft_len for one in choice.first.points])
    axes.set_ylabel("tokens gained in a step")
    axes.set_ylim(bottom=1)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def _draw_measured(axes: Any, measured: DraftAcceptance) -> None:  # noqa: ANN401 - matplotlib
    steps = [one.draft_len for one in measured.overall]
    lengths = [one.length for one in measured.overall]
    error = [[one.value - one.low for one in lengths], [one.high - one.value for one in lengths]]
    axes.errorbar(
        steps,
        [one.value for one in lengths],
        yerr=error,
        color="black",
        marker="o",
        capsize=3,
        label="all, greedy",
    )
    sampled = [one.sampled_length.value for one in measured.overall]
    axes.plot(steps, sampled, color="black", linestyle=":", label="all, sampled")
    for kind in measured.workloads:
        axes.plot(*_curve(kind.lengths), marker=".", alpha=0.8, label=_plain(kind.workload))


def _curve(lengths: Sequence[LengthAcceptance]) -> tuple[list[int], list[float]]:
    return [one.draft_len for one in lengths], [one.length.value for one in lengths]


def _draw_speed(axes: Any, choice: DraftChoice, measured: DraftAcceptance | None) -> None:  # noqa: ANN401 - matplotlib
    """Gain over no draft at each length, a line for each batch size, its best length marked."""
    every = max(1, -(-len(choice.batches) // _MOST_LINES))
    for number, batch in enumerate(choice.batches[::every]):
        gains = {point.draft_len: point.speedup for point in batch.points}
        axes.plot(
            list(gains), list(gains.values()), color=f"C{number}", label=f"batch size {batch.batch_size:,}"
        )
        best = batch.best_draft_len
        axes.plot([best], [gains[best]], marker="*", markersize=12, color=f"C{number}", linestyle="none")
    runs = gains_in_runs(measured) if measured is not None else {}
    if runs:
        axes.plot(
            list(runs),
            list(runs.values()),
            "o",
            color="black",
            fillstyle="none",
            label="really run, one request",
        )
    axes.axhline(1, color="gray", linewidth=1)
    axes.set_xlabel("draft length (a star marks the fastest)")
    axes.set_xticks([one.draft_len for one in choice.first.points])
    axes.set_ylabel("speed-up over no draft")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def _draw_batches(axes: Any, choice: DraftChoice) -> None:  # noqa: ANN401 - matplotlib
    """Tokens of all requests a second over the batch size, a line for each length that is best somewhere."""
    sizes = [batch.batch_size for batch in choice.batches]
    drafted = max(choice.first.points[1:], key=lambda one: one.tokens_per_s).draft_len
    used = {0, drafted, *choice.draft_len_schedule.values(), *(one.best_draft_len for one in choice.batches)}
    for draft_len in sorted(used):
        speeds = [
            next(point.tokens_per_s for point in batch.points if point.draft_len == draft_len)
            for batch in choice.batches
        ]
        label = f"{draft_len} drafted" if draft_len else "no draft"
        axes.plot(sizes, speeds, marker="o", markersize=4, label=label)
    if choice.stops_paying_at is not None:
        axes.axvline(choice.stops_paying_at, color="gray", linestyle="--", label="no gain from here on")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("batch size")
    axes.set_ylabel("tokens/s of all requests")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def _plain(text: str) -> str:
    """Names are the user's: no part of them is a formula."""
    return text.replace("$", r"\$")
