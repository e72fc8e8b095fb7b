"""Text of strangers made visible: what would hide, reorder or break text is written as an escape.

HTML and SVG escape their own signs elsewhere; this is about control characters and marks of direction.
"""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LONGEST_LABEL = 48


def visible(text: str) -> str:
    """`text` with every sign that cannot be seen as its escape; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(sign if _is_seen(sign) else f"\\u{ord(sign):04x}" for sign in text)


def label(text: str) -> str:
    """`text` for a picture: one line of limited length.

    matplotlib leaves labels that begin with an underscore out of legends, hence the blank before one.
    """
    line = " ".join(visible(text).split())
    short = line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1]}…"
    return f" {short}" if short.startswith("_") else short


def _is_seen(sign: str) -> bool:
    return sign in _KEPT or unicodedata.category(sign) not in _HIDDEN
