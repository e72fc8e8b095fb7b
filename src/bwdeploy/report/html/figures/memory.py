"""Memory of one GPU as a waterfall: each part begins where the one before ends, up to what the GPU has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.html.figures.palette import BAD, INK, MUTED, PAPER, SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

_GIB = 2**30
_BAR = 0.62
_WIDEST = 1.14
"""Room right of the longest bar for its figure, as a share of the axis."""


def draw_memory(figure: Any, parts: Sequence[tuple[str, int]], capacity_bytes: int | None) -> None:  # noqa: ANN401
    """Bars of `parts` (name, bytes) in order, their sum below, and a line at the capacity."""
    axes = figure.subplots()
    end = 0.0
    for row, (_, size) in enumerate(parts):
        width = size / _GIB
        axes.barh(row, width, left=end, height=_BAR, color=SERIES[0])
        if row:
            axes.plot([end, end], [row - 1 + _BAR / 2, row - _BAR / 2], color=MUTED, linewidth=0.8)
        end += width
        _write(axes, end, row, width)
    total = len(parts)
    axes.barh(total, end, height=_BAR, color=SERIES[6])
    _write(axes, end, total, end)
    limit = max(end, (capacity_bytes or 0) / _GIB)
    if capacity_bytes is not None:
        over = end > capacity_bytes / _GIB
        axes.axvline(capacity_bytes / _GIB, color=BAD if over else INK, linestyle="--", linewidth=1.4)
        axes.set_title(f"dashed: the GPU's {capacity_bytes / _GIB:,.1f} GiB", fontsize=9, fontweight="normal")
    axes.set_yticks(range(total + 1), [*(name for name, _ in parts), "in use"])
    axes.invert_yaxis()
    axes.set_xlim(0, limit * _WIDEST)
    axes.set_xlabel("GiB")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _write(axes: Any, end: float, row: int, width: float) -> None:  # noqa: ANN401 - matplotlib
    axes.annotate(
        f"{width:,.2f}",
        (end, row),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
    )
