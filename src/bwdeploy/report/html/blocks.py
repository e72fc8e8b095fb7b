"""What a section of the report is made of, before it becomes HTML.

Texts are plain: the template escapes them. A picture is a promise to draw; without matplotlib it stays one,
so whatever matters stands in a table or a note too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Tone = Literal["plain", "good", "bad", "warn"]


class Badge(NamedTuple):
    """A word whose meaning a color repeats."""

    text: str
    tone: Tone = "plain"


Cell = str | Badge


class Table(NamedTuple):
    """Rows under headings; the first column names the row."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    texts: frozenset[int] = frozenset({0})
    """Columns of words, set to the left; all others are figures, set to the right."""
    folded: bool = False
    """Shown as its caption alone until somebody opens it; printed whole."""


class Facts(NamedTuple):
    """Terms and what they are."""

    pairs: tuple[tuple[str, Cell], ...]


class Note(NamedTuple):
    """One paragraph."""

    text: str
    tone: Tone = "plain"


class Points(NamedTuple):
    """Short remarks, one below the other."""

    texts: tuple[str, ...]


class Heading(NamedTuple):
    """Begins a part of a section."""

    text: str


class Code(NamedTuple):
    """Text as it was written, folded."""

    caption: str
    text: str


class Picture(NamedTuple):
    """A drawing with its words for those who do not see it."""

    name: str
    """Unique in the report; letters, digits and dashes."""
    title: str
    description: str
    """What it shows, in a sentence or two: the text alternative."""
    draw: Callable[[Any], None]
    """Draws into an empty matplotlib figure."""
    height: float
    """In inches; every picture is as wide as the page."""


Block = Table | Facts | Note | Points | Heading | Code | Picture


class Section(NamedTuple):
    """One part of the report."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    lead: str = ""
    """One sentence below the title."""
