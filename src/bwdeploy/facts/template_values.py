"""Values of template keys: whether one fits its key, how config.pbtxt spells it, and back.

The backend reads every parameter as text and takes one that it cannot read for unset, without a word; hence
the judging here. Spelled as triton_backend/inflight_batcher_llm/src/utils.cc and model_state.cc read them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.facts.triton_templates import Kind, TemplateKey

_FALSE, _TRUE = ("false", "0", "f", "n", "no"), ("true", "1", "t", "y", "yes")


def misfit(key: TemplateKey, value: object) -> str:
    """What is expected, when `value` is something else; empty when it fits."""
    fits, expected = _FITS[key.kind]
    return "" if fits(key, value) else expected(key)


def as_text(key: TemplateKey, value: Any) -> str:  # noqa: ANN401 - a value that `misfit` accepts
    """The value as the parameter of config.pbtxt spells it."""
    match key.kind:
        case "switch":
            return "true" if value else "false"
        case "wholes":
            return ",".join(map(str, _listed(value)))
        case "groups":
            groups = value if isinstance(value[0], list) else [value]
            return ";".join(",".join(map(str, group)) for group in groups)
        case "tree":
            return ", ".join("{" + ", ".join(map(str, path)) + "}" for path in value)
        case _:
            return str(value)


def typed_value(key: TemplateKey, text: str) -> Any:  # noqa: ANN401 - what a recipe may hold
    """The value that config.pbtxt spells as `text`; None when it counts as unset.

    Raises:
        ValueError: the text is no value of this key.
    """
    text = text.strip()
    if not text or "${" in text:
        return None
    value = _PARSED[key.kind](text)
    expected = misfit(key, value)
    if expected:
        raise ValueError(f"expected {expected}, got {text!r}")
    return value


def _fits_whole(key: TemplateKey, value: object) -> bool:
    return _is_whole(value) and _in_bounds(key, value)


def _fits_number(key: TemplateKey, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _in_bounds(key, value)


def _fits_wholes(key: TemplateKey, value: object) -> bool:
    return (_is_whole(value) or _is_wholes(value)) and all(_in_bounds(key, one) for one in _listed(value))


def _fits_tree(_key: TemplateKey, value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_wholes, value))


def _fits_text(_key: TemplateKey, value: object) -> bool:
    return isinstance(value, str) and bool(value) and "${" not in value


_FITS: dict[Kind, tuple[Callable[[TemplateKey, object], bool], Callable[[TemplateKey], str]]] = {
    "switch": (lambda _key, value: isinstance(value, bool), lambda _key: "true or false"),
    "whole": (_fits_whole, lambda key: f"a whole number{_bounds(key)}"),
    "number": (_fits_number, lambda key: f"a number{_bounds(key)}"),
    "wholes": (_fits_wholes, lambda key: f"a whole number{_bounds(key)}, or a list of them"),
    "groups": (
        lambda key, value: _is_wholes(value) or _fits_tree(key, value),
        lambda _key: "a list of whole numbers, or a list of such lists",
    ),
    "tree": (_fits_tree, lambda _key: "a list of lists of whole numbers"),
    "choice": (lambda key, value: value in key.choices, lambda key: "one of " + ", ".join(key.choices)),
    "text": (_fits_text, lambda _key: "text"),
}


def _switch(text: str) -> bool:
    if text.lower() not in (*_FALSE, *_TRUE):
        raise ValueError(f"expected true or false, got {text!r}")
    return text.lower() in _TRUE


def _groups(text: str) -> list[Any]:
    groups = [_csv(group) for group in text.split(";") if group.strip()]
    return groups[0] if len(groups) == 1 else groups


def _wholes(text: str) -> int | list[int]:
    values = _csv(text)
    return values[0] if len(values) == 1 else values


_PARSED: dict[Kind, Callable[[str], Any]] = {
    "whole": int,
    "number": float,
    "switch": _switch,
    "wholes": _wholes,
    "groups": _groups,
    "tree": lambda text: [_csv(path) for path in re.findall(r"\{([^{}]*)\}", text)],
    "choice": str,
    "text": str,
}


def _csv(text: str) -> list[int]:
    return [int(item) for item in text.split(",") if item.strip()]


def _listed(value: Any) -> list[int]:  # noqa: ANN401
    return value if isinstance(value, list) else [value]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_wholes(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_whole(item) and item >= 0 for item in value)


def _least(key: TemplateKey) -> float | None:
    """No key takes a negative number."""
    return 0 if key.least is None and key.above is None else key.least


def _in_bounds(key: TemplateKey, value: Any) -> bool:  # noqa: ANN401
    least = _least(key)
    return (
        (least is None or value >= least)
        and (key.above is None or value > key.above)
        and (key.most is None or value <= key.most)
    )


def _bounds(key: TemplateKey) -> str:
    least = _least(key)
    if key.above is not None:
        return f" above {key.above:g}" + ("" if key.most is None else f" and at most {key.most:g}")
    return f" of {least:g} or more" if key.most is None else f" from {least:g} to {key.most:g}"
