"""Colors of the pictures.

A picture is drawn in the light theme's colors; in its SVG each becomes a variable of the style sheet, so that
one drawing serves the light and the dark theme. Every color here is used for nothing else.
"""

from __future__ import annotations

from typing import Any, Final

INK: Final = "#1b1f24"
MUTED: Final = "#57606b"
GRID: Final = "#d9dee4"
PAPER: Final = "#fefefe"
GOOD: Final = "#1a7f37"
BAD: Final = "#c62828"
SERIES: Final = ("#0b62c4", "#b84a00", "#0f766f", "#8a2fa8", "#a3154f", "#5a6a00", "#3a5068", "#7a4b12")
SHADES: Final = ("#eef4fb", "#d5e5f7", "#b3d0f0", "#86b4e4", "#5794d4", "#3174ba", "#17559a", "#0a3872")
"""From little to much, one hue."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Final = ("-", "--", "-.", ":")

VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    GOOD: "--good",
    BAD: "--bad",
    **{color: f"--series-{number}" for number, color in enumerate(SERIES, start=1)},
    **{color: f"--shade-{number}" for number, color in enumerate(SHADES, start=1)},
}
"""Color of a drawing → its variable in page.css."""


def series_style(number: int) -> dict[str, Any]:
    """Color, dash and marker of a line of a picture: no two alike among the first eight."""
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[(number + 1) % len(MARKERS)],
        "linewidth": 1.4,
    }
