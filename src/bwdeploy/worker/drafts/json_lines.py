"""Lines of JSON from strangers: prompts to measure on, conversations to train on."""

from __future__ import annotations

import json
from typing import Any


def object_in(line: str) -> dict[str, Any]:
    """The object of one line.

    Raises:
        ValueError: there is none; the message goes on after the place of the line.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"is no object but {row!r:.60}")  # noqa: TRY004 - a value of the line, no argument
    return row


def is_text(characters: str) -> bool:
    """Whether it can be encoded: JSON can hold half of a surrogate pair, which no tokenizer reads."""
    try:
        characters.encode()
    except UnicodeEncodeError:
        return False
    return True
