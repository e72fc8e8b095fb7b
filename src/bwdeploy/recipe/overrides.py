"""`--set a.b=value`: one value of the recipe, given on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.document import parse_document
from bwdeploy.recipe.findings import finding_at
from bwdeploy.recipe.layers import Layer, NotAMappingError, put
from bwdeploy.recipe.places import Place, Places, dotted
from bwdeploy.recipe.scalars import ScalarError, resolve
from bwdeploy.recipe.words import COMPOSITION_KEYS, path_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_SHOWN_LENGTH = 80


class Override(NamedTuple):
    """A value for one path."""

    path: tuple[str, ...]
    value: Any
    places: Places


def parse_overrides(texts: Sequence[str]) -> tuple[Override, ...]:
    """Read `--set` values; every wrong one is reported.

    Raises:
        RecipeError: not of the form a.b=value, an unknown path, or a value that is not YAML.
    """
    overrides: list[Override] = []
    findings: list[Finding] = []
    for text in texts:
        try:
            overrides.append(_parse(text))
        except RecipeError as error:
            findings.extend(error.findings)
    if findings:
        raise RecipeError(tuple(findings))
    return tuple(overrides)


def apply_overrides(layer: Layer, overrides: Iterable[Override]) -> Layer:
    """`layer` with every override put in, in order.

    Raises:
        RecipeError: a path leads through a value that is not a mapping.
    """
    for override in overrides:
        try:
            layer = put(layer, override.path, override.value, override.places)
        except NotAMappingError as error:
            place = override.places.of_value(())
            message = f"{dotted(error.path)} is not a mapping in this recipe"
            raise RecipeError(
                (_finding(place, dotted(override.path), message, "set it as a whole"),)
            ) from None
    return layer


def _parse(text: str) -> Override:
    option = f"--set {text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + '…'}"
    place = Place(option=option)
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise RecipeError(
            (_finding(place, "", "expected a.b=value", "for example --set engine.max_batch_size=8"),)
        )
    if path[0] in COMPOSITION_KEYS:
        message = f"{path[0]} can only be given in a file"
        raise RecipeError((_finding(place, path[0], message, "write a recipe with base: of this one"),))
    problem = path_problem(path)
    if problem is not None:
        raise RecipeError((_finding(place, key.strip(), *problem),))
    return _with_value(path, value.strip(), place)


def _with_value(path: tuple[str, ...], value: str, place: Place) -> Override:
    if value.startswith(("[", "{", '"', "'")):
        document = parse_document(value, option=place.option)
        return Override(path, document.data, document.places)
    try:
        scalar = resolve(value)
        value.encode()  # a byte that was no text arrives as half of a surrogate pair
    except (ScalarError, UnicodeEncodeError) as error:
        raise RecipeError((_finding(place, dotted(path), str(error), "give another value"),)) from None
    return Override(path, scalar, Places({}, {(): Place(text=value, option=place.option)}))


def _finding(place: Place, path: str, message: str, hint: str) -> Finding:
    return finding_at(place, rule="recipe-set", path=path, message=message, hint=hint)
