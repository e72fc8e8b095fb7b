"""Contrast in both themes, and that every color of a picture is one of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bwdeploy.report.html import page
from bwdeploy.report.html.figures.palette import PAPER, SERIES, VARIABLES

STYLE = (Path(page.__file__).parent / "page.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)


def luminance(color: str) -> float:
    """Of WCAG 2.2."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_on_every_background(theme: dict[str, str]) -> None:
    for ink in ("--ink", "--muted", "--accent", "--good", "--bad", "--warn"):
        assert contrast(theme[ink], theme["--paper"]) >= 4.5, ink
        assert contrast(theme[ink], theme["--raised"]) >= 4.5, ink
    for tone in ("--good", "--bad", "--warn"):
        assert contrast(theme[tone], theme[f"{tone}-paper"]) >= 4.5, tone
        assert contrast(theme["--ink"], theme[f"{tone}-paper"]) >= 4.5, tone


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_of_pictures_can_be_seen(theme: dict[str, str]) -> None:
    for number in range(1, len(SERIES) + 1):
        assert contrast(theme[f"--series-{number}"], theme["--paper"]) >= 4.5


def test_every_color_of_a_picture_is_in_both_themes() -> None:
    assert set(VARIABLES.values()) <= set(LIGHT) & set(DARK)
    differing = {color for color, name in VARIABLES.items() if LIGHT[name] != color}
    assert differing == {PAPER}  # a sentinel: matplotlib itself writes plain white
