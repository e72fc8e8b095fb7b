"""What an unquoted YAML scalar means: the YAML 1.2 core schema, minus its traps.

`no`, `off`, `2026-11-22` and `1_000` are text, as YAML 1.2 says. A number with a leading zero stays text
too (revisions and versions look like that), and infinity, NaN and numbers beyond 64 bits are refused,
because the recipe must survive a trip through JSON.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_WHOLE_NUMBERS = (
    (r"[-+]?(0|[1-9][0-9]*)", 10),
    (r"0x[0-9a-fA-F]+", 16),
    (r"0o[0-7]+", 8),
)
"""Form and base."""
_NUMBERS_START_WITH = frozenset("+-.0123456789")
_FLOAT = r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_NOT_FINITE = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_MAX_DIGITS = 25


class ScalarError(ValueError):
    """The scalar is a number that no recipe can hold."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar.

    Raises:
        ScalarError: infinity, NaN, or a number beyond 64 bits.
    """
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] not in _NUMBERS_START_WITH:
        return text
    if re.fullmatch(_NOT_FINITE, text):
        raise ScalarError(f"{text} is not a finite number")
    for form, base in _WHOLE_NUMBERS:
        if re.fullmatch(form, text):
            return _bounded(text, base)
    return _finite(text) if re.fullmatch(_FLOAT, text) else text


def _bounded(text: str, base: int) -> int:
    number = int(text, base) if len(text) <= _MAX_DIGITS else 2**64
    if not -(2**63) <= number < 2**63:
        raise ScalarError(f"the number {text[:20]}… does not fit into 64 bits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ScalarError(f"the number {text[:20]} is too large")
    return number
