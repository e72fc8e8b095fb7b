"""What a draft's tokens are worth: acceptance over the draft length, and by position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.report.html.figures.axes import shared_legend
from bwdeploy.report.html.figures.palette import INK, series_style
from bwdeploy.report.html.visible import label

if TYPE_CHECKING:
    from collections.abc import Sequence


class AcceptanceCurve(NamedTuple):
    """One kind of prompts."""

    name: str
    lengths: Sequence[tuple[int, float, float, float]]
    """Draft length, tokens gained in one step, low and high end of the interval."""
    per_position: Sequence[float]


def draw_acceptance(
    figure: Any,  # noqa: ANN401 - matplotlib
    overall: AcceptanceCurve,
    sampled: Sequence[tuple[int, float]],
    workloads: Sequence[AcceptanceCurve],
) -> None:
    """Left: tokens of one step, all prompts with their band; right: acceptance of each position."""
    left, right = figure.subplots(1, 2)
    steps = [row[0] for row in overall.lengths]
    left.fill_between(
        steps,
        [row[2] for row in overall.lengths],
        [row[3] for row in overall.lengths],
        color=INK,
        alpha=0.14,
        linewidth=0,
        label="95 % interval of all",
    )
    left.plot(steps, [row[1] for row in overall.lengths], color=INK, marker="o", label="all, greedy")
    if sampled:
        left.plot(*zip(*sampled, strict=True), color=INK, linestyle=":", label="all, sampled")
    for number, one in enumerate(workloads):
        style = series_style(number)
        left.plot(
            [row[0] for row in one.lengths], [row[1] for row in one.lengths], **style, label=label(one.name)
        )
        right.plot(range(1, len(one.per_position) + 1), one.per_position, **style)
    right.plot(range(1, len(overall.per_position) + 1), overall.per_position, color=INK, marker="o")
    left.set_title("tokens gained in one step")
    left.set_xlabel("draft length")
    left.set_ylim(bottom=1)
    left.set_xticks(steps)
    right.set_title("accepted, of those whose earlier tokens were")
    right.set_xlabel("position in the draft")
    right.set_ylim(0, 1)
    right.set_xticks(range(1, len(overall.per_position) + 1))
    shared_legend(figure)
