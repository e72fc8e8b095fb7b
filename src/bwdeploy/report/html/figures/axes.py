"""Axes that several pictures share: batch sizes, factors of ten, one legend for all panels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_TICKS = 7


def count_axis(axes: Any, counts: Sequence[int], label: str) -> None:  # noqa: ANN401 - matplotlib
    """Powers of two along x, written as numbers, no more of them than fit."""
    shown = counts[:: -(-len(counts) // _MOST_TICKS)]
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{count:,}" for count in shown])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(label)


def logarithmic(axes: Any) -> None:  # noqa: ANN401 - matplotlib
    """A logarithmic y axis with plain numbers."""
    ticker = import_module("matplotlib.ticker")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _plain(value)))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def shared_legend(figure: Any, columns: int = 4) -> None:  # noqa: ANN401 - matplotlib
    """One entry for each name of all panels, below them."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)


def _plain(value: float) -> str:
    """Without an exponent where that stays short."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.6f}".rstrip("0").rstrip(".") or f"{value:g}"
