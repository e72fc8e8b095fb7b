"""Something of every layer and kind of module as a field of squares, darker for more."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.report.html.figures.palette import INK, SHADES
from bwdeploy.report.html.visible import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NARROWEST = 0.8
"""The shades reach down to this share of the highest value at least: small differences shall look small."""
_MOST_TICKS = 24


def draw_field(
    figure: Any,  # noqa: ANN401 - matplotlib
    kinds: Sequence[str],
    values: Mapping[tuple[str, int], float],
    *,
    unit: str,
) -> None:
    """A row for each kind, a column for each layer; `values` by kind and layer, as far as there are."""
    layers = sorted({layer for _, layer in values})
    high = max(values.values())
    low = min(*values.values(), high * _NARROWEST)
    patches = import_module("matplotlib.patches")
    axes = figure.subplots()
    for (kind, layer), value in values.items():
        shade = SHADES[_step(value, low, high)]
        place = (layers.index(layer) - 0.5, kinds.index(kind) - 0.5)
        axes.add_patch(patches.Rectangle(place, 1, 1, facecolor=shade, edgecolor="none"))
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    every = -(-len(layers) // _MOST_TICKS)
    axes.set_xticks(range(0, len(layers), every), [str(layer) for layer in layers[::every]])
    axes.set_yticks(range(len(kinds)), [label(kind) for kind in kinds])
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    _key(figure, patches, low, high, unit)


def _step(value: float, low: float, high: float) -> int:
    """Of the shades, from the lightest for `low` to the darkest for `high`."""
    if not high > low:
        return len(SHADES) // 2
    return min(int((value - low) / (high - low) * len(SHADES)), len(SHADES) - 1)


def _key(figure: Any, patches: Any, low: float, high: float, unit: str) -> None:  # noqa: ANN401
    """What the shades mean: where each begins."""
    steps = range(len(SHADES)) if high > low else range(len(SHADES) // 2, len(SHADES) // 2 + 1)
    width = (high - low) / len(SHADES)
    figure.legend(
        handles=[
            patches.Patch(
                facecolor=SHADES[step], edgecolor=INK, linewidth=0.3, label=f"{low + step * width:.3g}"
            )
            for step in steps
        ],
        title=f"{unit}, from",
        title_fontsize=8.5,
        loc="outside right upper",
        handlelength=1.4,
        handleheight=1.2,
    )
