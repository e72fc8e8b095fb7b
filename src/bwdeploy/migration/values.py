"""Texts of a config.pbtxt or of a command line as the values that they stand for."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_UNFILLED = re.compile(r"\$\{\w*\}")
_SWITCHES = {"true": True, "1": True, "enable": True, "false": False, "0": False, "disable": False}
_MAX_DIGITS = 18
_MAX_TEXT = 4096


class ValueMisfitError(ValueError):
    """The text is no value of that kind; the text of this says what it should be."""


def is_unfilled(text: object) -> bool:
    """Whether a template value was never filled in: `${max_beam_width}` counts as not set."""
    return isinstance(text, str) and _UNFILLED.search(text) is not None


def value_of(kind: str, value: Any) -> Any:  # noqa: ANN401 - JSON data
    """`value` as a value of `kind`, a kind of `facts.build_flags` or of `facts.triton_templates`.

    Raises:
        ValueMisfitError: it is none.
    """
    convert: Callable[[Any], Any] = _CONVERSIONS.get(kind, _text)
    return convert(value)


def word_of(value: Any) -> str:  # noqa: ANN401 - JSON data
    """A value as tables spell it: `true` and not `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _whole(value: Any) -> int:  # noqa: ANN401 - JSON data
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    text = str(value).strip()
    if re.fullmatch(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}", text):
        return int(text)
    raise ValueMisfitError("a whole number")


def _number(value: Any) -> float:  # noqa: ANN401 - JSON data
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueMisfitError("a number") from None
    if not math.isfinite(number) or isinstance(value, bool):
        raise ValueMisfitError("a finite number")
    return number


def _switch(value: Any) -> bool:  # noqa: ANN401 - JSON data
    if isinstance(value, bool):
        return value
    found = _SWITCHES.get(str(value).strip().lower())
    if found is None:
        raise ValueMisfitError("true or false")
    return found


def _items(value: Any) -> list[Any]:  # noqa: ANN401 - JSON data
    """Of a list, or of a text; commas inside a template value were escaped with a backslash."""
    if isinstance(value, list | tuple):
        return list(value)
    return [item for item in re.split(r"[\s,]+", str(value).replace("\\,", ",")) if item]


def _text(value: Any) -> str:  # noqa: ANN401 - JSON data
    text = value if isinstance(value, str) else word_of(value)
    if not text.isprintable() or len(text) > _MAX_TEXT:
        raise ValueMisfitError("one line of text")
    return text


def _texts(value: Any) -> list[str]:  # noqa: ANN401 - JSON data
    return [_text(item) for item in _items(value)]


def _wholes(value: Any) -> list[int]:  # noqa: ANN401 - JSON data
    return [_whole(item) for item in _items(value)]


def _groups(value: Any) -> list[Any]:  # noqa: ANN401 - JSON data
    """`0,1` is a list; `0,1;2,3` a list for each instance."""
    if isinstance(value, list):
        return value
    groups = [_wholes(part) for part in str(value).split(";") if part.strip()]
    return groups[0] if len(groups) == 1 else groups


def _tree(value: Any) -> list[list[int]]:  # noqa: ANN401 - JSON data
    """Paths through a draft tree, `{{0},{0,1}}` or `[[0], [0, 1]]`."""
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        tree = json.loads(text.replace("\\,", ",").translate(str.maketrans("{}", "[]")))
    except (ValueError, RecursionError):
        raise ValueMisfitError("a list of paths such as [[0], [0, 1]]") from None
    if not isinstance(tree, list) or not all(isinstance(path, list) for path in tree):
        raise ValueMisfitError("a list of paths such as [[0], [0, 1]]")
    return [_wholes(path) for path in tree]


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "whole": _whole,
    "number": _number,
    "switch": _switch,
    "list": _texts,
    "wholes": _wholes,
    "groups": _groups,
    "tree": _tree,
}
