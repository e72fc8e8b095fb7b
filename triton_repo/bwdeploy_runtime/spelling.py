"""Suggests the word that was probably meant. Only for error texts; nothing is ever corrected in silence."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(word: str, valid: Iterable[str], *, prefix: str = "") -> str:
    """A sentence with the nearest of `valid`, or with all of them when none is near.

    Names that begin with `prefix` are also found by a word that lacks it.
    """
    names = sorted(valid)
    known = {name: name for name in names}
    if prefix and not word.startswith(prefix):
        known |= {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {known[near[0]]}?" if near else f"Valid names: {', '.join(names)}."
