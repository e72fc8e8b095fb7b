"""What a draft is predicted to gain: over the draft length, and over the batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.html.figures.axes import count_axis, logarithmic, shared_legend
from bwdeploy.report.html.figures.palette import BAD, INK, MUTED, series_style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def draw_speed_by_length(
    figure: Any,  # noqa: ANN401 - matplotlib
    speedups: Mapping[int, Mapping[int, float]],
    best: Mapping[int, int],
    measured: Sequence[tuple[int, float]],
) -> None:
    """Predicted gain over the draft length, a line for each batch size, the best of each marked.

    Args:
        figure: An empty figure.
        speedups: Batch size → draft length → factor over no draft.
        best: Batch size → its best draft length.
        measured: Draft length and factor of real speculative decoding, one request at a time.
    """
    axes = figure.subplots()
    for number, (batch, factors) in enumerate(speedups.items()):
        style = series_style(number) | {"marker": ""}
        axes.plot(list(factors), list(factors.values()), **style, label=f"batch {batch}")
        if best[batch] in factors:
            axes.plot(
                best[batch],
                factors[best[batch]],
                marker="*",
                markersize=11,
                color=style["color"],
                linestyle="none",
            )
    if measured:
        axes.plot(
            *zip(*measured, strict=True),
            color=INK,
            marker="o",
            markerfacecolor="none",
            markersize=8,
            linestyle="none",
            label="measured, one request",
        )
    axes.axhline(1, color=MUTED, linestyle="--", linewidth=1.4)
    axes.set_xlabel("draft length (0: no draft); a star marks the best of each batch")
    axes.set_ylabel("speed against no draft")
    axes.set_xticks(sorted({length for factors in speedups.values() for length in factors}))
    figure.legend(loc="outside right upper")


def draw_speed_by_batch(
    figure: Any,  # noqa: ANN401 - matplotlib
    plain: Sequence[tuple[int, float]],
    best: Sequence[tuple[int, float]],
    gains: Mapping[int, Sequence[tuple[int, float]]],
    stops_paying_at: int | None,
) -> None:
    """Left tokens a second of the whole batch, right the gain of each draft length, over the batch size."""
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*plain, strict=True), color=MUTED, linestyle="--", marker="s", label="no draft")
    left.plot(*zip(*best, strict=True), color=INK, marker="o", label="best length of each batch")
    logarithmic(left)
    left.set_title("tokens/s of all requests")
    for number, (length, points) in enumerate(gains.items()):
        right.plot(*zip(*points, strict=True), **series_style(number), label=f"{length} drafted")
    right.axhline(1, color=MUTED, linestyle="--", linewidth=1.4)
    right.set_title("speed against no draft")
    for axes in (left, right):
        count_axis(axes, [batch for batch, _ in plain], "batch size")
        if stops_paying_at is not None:
            axes.axvline(
                stops_paying_at, color=BAD, linestyle=":", linewidth=1.4, label="no gain from here on"
            )
    shared_legend(figure, columns=5)
