"""How much longer others take than a fused kernel, over the rows of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.html.figures.axes import count_axis, logarithmic, shared_legend
from bwdeploy.report.html.figures.palette import INK, series_style
from bwdeploy.report.html.visible import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def draw_baselines(figure: Any, factors: Mapping[str, Sequence[tuple[int, float]]]) -> None:  # noqa: ANN401
    """A line for each baseline: rows, and its time over the kernel's."""
    axes = figure.subplots()
    for number, (name, points) in enumerate(factors.items()):
        axes.plot(*zip(*points, strict=True), **series_style(number), label=label(name))
    axes.axhline(1, color=INK, linestyle="--", linewidth=1.4, label="the fused kernel")
    count_axis(axes, sorted({rows for points in factors.values() for rows, _ in points}), "rows")
    logarithmic(axes)
    axes.set_ylabel("time, in times the kernel's")
    shared_legend(figure, columns=3)
