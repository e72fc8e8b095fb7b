"""A training: its loss and the metric that decided about stopping, over the optimizer steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.report.html.figures.axes import shared_legend
from bwdeploy.report.html.figures.palette import GOOD, MUTED, SERIES
from bwdeploy.report.html.visible import label

if TYPE_CHECKING:
    from collections.abc import Sequence


class Curve(NamedTuple):
    """A training's points: step and value."""

    loss: Sequence[tuple[int, float]]
    validation: Sequence[tuple[int, float]]
    metric: str
    best_step: int
    resumed_at: int | None
    levels: Sequence[tuple[str, float]] = ()
    """Lines across the metric's panel, for example `before training`."""


def draw_training(figure: Any, curve: Curve) -> None:  # noqa: ANN401 - matplotlib
    """One panel for each of loss and metric that has points, side by side."""
    panels = [
        ("training loss", curve.loss, SERIES[0], ()),
        (f"validation: {label(curve.metric)}", curve.validation, SERIES[1], curve.levels),
    ]
    drawn = [panel for panel in panels if panel[1]]
    columns = figure.subplots(1, max(1, len(drawn)), squeeze=False)[0]
    for axes, (title, points, color, levels) in zip(columns, drawn, strict=False):
        marker = "o" if len(points) < 40 or levels else ""  # noqa: PLR2004 - more would run together
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=3.5)
        axes.set_title(title)
        axes.set_xlabel("optimizer step")
        axes.locator_params(axis="x", integer=True)
        axes.axvline(
            curve.best_step, color=GOOD, linestyle="--", linewidth=1.2, label="weights that were kept"
        )
        if curve.resumed_at is not None:
            axes.axvline(curve.resumed_at, color=MUTED, linestyle=":", linewidth=1.2, label="resumed here")
        for number, (name, value) in enumerate(levels):
            style = ("-.", ":")[number % 2]
            axes.axhline(
                value, color=MUTED, linestyle=style, linewidth=1.2, label=f"{label(name)} {value:.4g}"
            )
    shared_legend(figure)
