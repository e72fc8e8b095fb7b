"""Long sentences as lines that fit a terminal. Addresses and paths are never cut."""

from __future__ import annotations

import textwrap

WIDTH = 110


def wrapped(text: str, *, indent: int, hanging: int | None = None) -> list[str]:
    """Lines of `text`: the first begins after `indent` blanks, the others after `hanging` (else as many)."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
