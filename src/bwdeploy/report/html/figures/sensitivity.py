"""What each format would cost each layer, and which one the search chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.html.figures.axes import logarithmic
from bwdeploy.report.html.figures.palette import INK, MARKERS, SERIES
from bwdeploy.report.html.visible import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def draw_sensitivity(
    figure: Any,  # noqa: ANN401 - matplotlib
    scores: Sequence[Mapping[str, float]],
    chosen: Sequence[str],
) -> None:
    """A point for each group and format that costs something; the chosen one ringed.

    Args:
        figure: An empty figure.
        scores: For each group in the model's order, format → damage.
        chosen: For each group, its format.
    """
    axes = figure.subplots()
    formats = list(dict.fromkeys(name for group in scores for name in group))
    for number, name in enumerate(formats):
        points = [(place, group[name]) for place, group in enumerate(scores) if group.get(name, 0) > 0]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                linestyle="none",
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                color=SERIES[number % len(SERIES)],
                label=label(name),
            )
    ringed = [
        (place, group[name])
        for place, (group, name) in enumerate(zip(scores, chosen, strict=True))
        if group.get(name, 0) > 0
    ]
    if ringed:
        axes.plot(
            *zip(*ringed, strict=True),
            linestyle="none",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            color=INK,
            label="chosen",
        )
    logarithmic(axes)
    axes.set_xlabel("group of layers, in the model's order")
    axes.set_ylabel("damage to the output")
    figure.legend(loc="outside right upper")
