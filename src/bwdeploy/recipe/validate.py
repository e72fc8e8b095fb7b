"""Plain data to a `Recipe`, and every complaint of pydantic in the user's words, at its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.findings import finding_at, in_reading_order
from bwdeploy.recipe.places import KeyPath, Place, Places, dotted, path_within, value_at
from bwdeploy.recipe.schema import PATTERN_MEANINGS, Recipe
from bwdeploy.recipe.words import nearest, unknown_word_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping (key: value)",
    "dict_type": "a mapping (key: value)",
}
_WORDS_FOR_TRUE = frozenset({"yes", "on", "y", "1"})
_WORDS_FOR_FALSE = frozenset({"no", "off", "n", "0"})
_SHOWN_LENGTH = 60
_OF_KEYS = frozenset({"missing", "extra_forbidden"})
_KEY = "[key]"
"""How pydantic ends the place of a key that is wrong."""
_GUESS = "Did you mean"
_MAX_FINDINGS = 200


def validate(data: dict[str, Any], places: Places) -> Recipe:
    """The recipe that `data` says.

    Raises:
        RecipeError: with every problem, each at the place that says it.
    """
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
    members: dict[KeyPath, list[Finding]] = {}
    for number, detail in enumerate(details[:_MAX_FINDINGS]):
        path = _path_in(data, detail)
        place = (number,) if path == detail["loc"] else path  # shorter: of a value that may be one of several
        members.setdefault(place, []).append(_finding(detail, path, data, places))
    findings = [_either(several) for several in members.values()]
    if len(details) > _MAX_FINDINGS:
        message = f"{len(details) - _MAX_FINDINGS} more problems are not listed"
        hint = "mend these first; is this file a recipe at all"
        findings.append(
            finding_at(places.of_value(()), rule="recipe-more-problems", path="", message=message, hint=hint)
        )
    raise RecipeError(in_reading_order(findings))


def shown(value: object) -> str:
    """The value in the words of somebody who writes YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN_LENGTH else value[: _SHOWN_LENGTH - 1] + "…"
        return f"the text {text!r}"
    return "a list" if isinstance(value, list) else "a mapping"


def _path_in(data: dict[str, Any], detail: ErrorDetails) -> KeyPath:
    """Where the value stands; of a key its place ends with `_KEY`."""
    path: KeyPath = tuple(detail["loc"])
    if detail["type"] in _OF_KEYS or path[-1:] == (_KEY,):
        return path
    return path_within(path, data)


def _either(several: list[Finding]) -> Finding:
    """The complaints of all that a value could have been, as one: the best guess, or what each expects."""
    guess = next((one for one in several if one.hint.startswith(_GUESS)), None)
    hints = [several[0].hint, *(f"{one.hint[:1].lower()}{one.hint[1:]}" for one in several[1:])]
    return guess or several[0]._replace(hint=", or ".join(hints))


def _finding(detail: ErrorDetails, path: KeyPath, data: dict[str, Any], places: Places) -> Finding:
    kind = detail["type"]
    if kind == "missing":
        return _missing(path, places)
    if kind == "extra_forbidden":
        place, hint = places.of_key(path), unknown_word_hint(str(path[-1]), path[:-1])
        where = f"{dotted(path[:-1])} has" if path[:-1] else "a recipe has"
        message = f"{where} no key {path[-1]!r}"
        return finding_at(place, rule="recipe-unknown-key", path=dotted(path), message=message, hint=hint)
    is_key = path[-1] == _KEY
    path = path[:-1] if is_key else path
    value = path[-1] if is_key else value_at(data, path)
    place = places.of_key(path) if is_key else places.of_value(path)
    rule, message, hint = _about(kind)(kind, detail, value, place)
    return finding_at(place, rule=rule, path=dotted(path), message=message, hint=hint)


def _missing(path: KeyPath, places: Places) -> Finding:
    place = places.of_key(path[:-1]) if path[:-1] else places.of_value(())
    hint = "write `schema: 1`" if path == ("schema",) else f"add {dotted(path)}"
    message = "this key is missing"
    return finding_at(place, rule="recipe-missing-key", path=dotted(path), message=message, hint=hint)


Words = tuple[str, str, str]


def _about(kind: str) -> Callable[[str, ErrorDetails, Any, Place], Words]:
    if kind in _EXPECTED:
        return _wrong_type
    if kind == "literal_error":
        return _not_a_choice
    if kind == "string_pattern_mismatch":
        return _wrong_form
    return _out_of_bounds


def _wrong_type(kind: str, detail: ErrorDetails, value: object, place: Place) -> Words:  # noqa: ARG001
    return (
        "recipe-wrong-type",
        f"expected {_EXPECTED[kind]}, got {shown(value)}",
        _type_hint(kind, value, place),
    )


def _type_hint(kind: str, value: object, place: Place) -> str:
    if value is None:
        return "give a value, or remove the key to get its default"
    if kind == "bool_type":
        return _bool_hint(place.text.lower())
    if kind == "string_type" and place.text:
        return f'put it in quotes: "{place.text}"'
    if kind == "tuple_type":
        return "write a list: [first, second]"
    if isinstance(value, str) and kind in {"int_type", "int_from_float", "float_type"}:
        digits = value.replace("_", "").replace(",", "")
        return (
            f"write {digits} without quotes"
            if digits.isdecimal() and digits.isascii()
            else "write digits only"
        )
    return f"write {_EXPECTED[kind]}"


def _bool_hint(word: str) -> str:
    if word in _WORDS_FOR_TRUE:
        return "write true"
    return "write false" if word in _WORDS_FOR_FALSE else "write true or false, without quotes"


def _not_a_choice(kind: str, detail: ErrorDetails, value: object, place: Place) -> Words:  # noqa: ARG001
    expected: str = detail["ctx"]["expected"]
    choices = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    if choices == ["1"]:
        return (
            "recipe-not-a-choice",
            f"expected 1, got {shown(value)}",
            "this bwdeploy reads recipes of schema 1",
        )
    near = nearest(place.text or str(value), choices)
    if value is None and "none" in choices:
        near = "none"
    one_of = ", ".join(choices)
    if near:
        return "recipe-not-a-choice", f"{shown(value)} is not one of: {one_of}", f"did you mean {near}"
    return "recipe-not-a-choice", f"{shown(value)} is not a valid choice", f"choose one of: {one_of}"


def _wrong_form(kind: str, detail: ErrorDetails, value: object, place: Place) -> Words:  # noqa: ARG001
    meaning = PATTERN_MEANINGS[detail["ctx"]["pattern"]]
    return "recipe-wrong-form", f"{shown(value)} does not have the right form", f"expected {meaning}"


def _out_of_bounds(kind: str, detail: ErrorDetails, value: object, place: Place) -> Words:  # noqa: ARG001
    context = detail.get("ctx", {})
    bounds = {
        "greater_than_equal": lambda: f"at least {context['ge']}",
        "greater_than": lambda: f"more than {context['gt']}",
        "less_than_equal": lambda: f"at most {context['le']}",
        "string_too_short": lambda: f"at least {context['min_length']} characters",
        "string_too_long": lambda: f"at most {context['max_length']} characters",
        "too_short": lambda: f"at least {context['min_length']} entries",
        "too_long": lambda: f"at most {context['max_length']} entries",
    }
    expected = bounds[kind]() if kind in bounds else detail["msg"]
    return (
        "recipe-out-of-bounds",
        f"expected {expected}, got {shown(value)}",
        "choose a value within the bounds",
    )
