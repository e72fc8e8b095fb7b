"""Verdicts as a forest plot: each figure and its interval, measured in the limit that it has to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.report.html.figures.palette import BAD, GOOD, INK, MUTED, SERIES
from bwdeploy.report.html.visible import label

if TYPE_CHECKING:
    from collections.abc import Sequence

_FARTHEST = 3.0
"""Limits away; what lies farther is drawn as an arrow at the edge."""


class Row(NamedTuple):
    """One limit: 0 is no loss at all, 1 is the limit."""

    name: str
    verdict: str
    value: float
    low: float
    high: float


def draw_verdicts(figure: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401 - matplotlib
    """A line for each row; right of the dashed line is worse than the limit allows."""
    axes = figure.subplots()
    colors = {"pass": GOOD, "fail": BAD}
    markers = {"pass": "o", "fail": "X", "inconclusive": "D"}
    least = min(-0.2, *(max(row.low, -_FARTHEST) for row in rows)) - 0.1
    most = max(1.4, *(min(row.high, _FARTHEST) for row in rows)) + 0.1
    for place, row in enumerate(rows):
        color = colors.get(row.verdict, SERIES[1])
        low, high = max(row.low, least), min(row.high, most)
        if low <= most and high >= least:
            axes.plot([low, high], [place, place], color=color, linewidth=2.4, solid_capstyle="butt")
        value = min(max(row.value, least), most)
        marker = markers.get(row.verdict, "D") if value == row.value else (">" if value == most else "<")
        axes.plot(value, place, marker=marker, markersize=7, color=color, linestyle="none", clip_on=False)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.axvline(1, color=INK, linewidth=1.4, linestyle="--")
    axes.set_xlim(least, most)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [f"{label(row.name)}: {row.verdict}" for row in rows])
    axes.set_xlabel("loss against the source, in limits: 0 is none, 1 (dashed) is all that the recipe allows")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
