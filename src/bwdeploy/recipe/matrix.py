"""`matrix:`: one recipe file that stands for several named builds.

    matrix:
      quantize.format: [nvfp4, fp8]
      engine: [{max_batch_size: 1}, {max_batch_size: 64}]

Each axis is a path of the recipe, each of its values a value for that path (a mapping is merged into the
section). The builds are the product of the axes; each is called after its values, `name-nvfp4-1`.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.findings import finding_at
from bwdeploy.recipe.layers import Layer, NotAMappingError, put
from bwdeploy.recipe.places import KeyPath, dotted
from bwdeploy.recipe.words import path_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.recipe.overrides import Override

MAX_BUILDS = 1024
_MAX_VALUES = 500_000
"""Of all builds together."""
_MAX_LABEL = 40
_RULE = "recipe-matrix"


class _Choice(NamedTuple):
    """One value of one axis."""

    path: tuple[str, ...]
    value: Any
    label: str
    place_path: KeyPath


def expand(layer: Layer, overrides: Iterable[Override]) -> list[Layer]:
    """The builds that `layer`, which has a matrix, stands for.

    An override of exactly an axis keeps that axis at the one value.

    Raises:
        RecipeError: an axis is not a path or has no values, too many builds, or two of the same name.
    """
    axes = _axes(layer, {override.path: override.value for override in overrides})
    plain = Layer({key: value for key, value in layer.data.items() if key != "matrix"}, layer.places)
    count = 1
    for axis in axes:
        count *= len(axis)
    if count > MAX_BUILDS:
        raise RecipeError(
            (_finding(layer, ("matrix",), f"{count} builds, more than {MAX_BUILDS}", "split the recipe"),)
        )
    if count * len(layer.places.values) > _MAX_VALUES:
        size = f"{count} builds of a recipe with {len(layer.places.values)} values"
        raise RecipeError((_finding(layer, ("matrix",), f"{size} are too much", "split the recipe"),))
    builds = [_build(plain, choices) for choices in itertools.product(*axes)]
    _require_unique_names(layer, builds)
    return builds


def _axes(layer: Layer, fixed: dict[tuple[str, ...], Any]) -> list[list[_Choice]]:
    matrix = layer.data["matrix"]
    if not isinstance(matrix, dict) or not matrix:
        hint = "for example `quantize.format: [nvfp4, fp8]`"
        raise RecipeError(
            (_finding(layer, ("matrix",), "expected a mapping from paths to lists of values", hint),)
        )
    findings = [finding for name, values in matrix.items() for finding in _axis_findings(layer, name, values)]
    if findings:
        raise RecipeError(tuple(findings))
    return [_choices(name, values, fixed) for name, values in matrix.items()]


def _axis_findings(layer: Layer, name: str, values: object) -> Iterator[Finding]:
    here = ("matrix", name)
    if name in {"schema", "name", "base", "matrix"}:
        yield _finding(layer, here, f"{name} cannot be an axis", "each build gets a name of its own")
    elif problem := path_problem(tuple(name.split("."))):
        yield _finding(layer, here, *problem)
    elif not isinstance(values, list) or not values:
        yield _finding(layer, here, "expected a list of values", f"write `{name}: [first, second]`")


def _choices(name: str, values: list[Any], fixed: dict[tuple[str, ...], Any]) -> list[_Choice]:
    path = tuple(name.split("."))
    if path in fixed:
        return [_Choice(path, fixed[path], _label(fixed[path], 1), ())]
    return [
        _Choice(path, value, _label(value, number), ("matrix", name, number - 1))
        for number, value in enumerate(values, start=1)
    ]


def _build(layer: Layer, choices: tuple[_Choice, ...]) -> Layer:
    build = layer
    for choice in choices:
        places = (
            layer.places.below(choice.place_path) if choice.place_path else layer.places.below(choice.path)
        )
        try:
            build = put(build, choice.path, choice.value, places)
        except NotAMappingError as error:
            message = f"{dotted(error.path)} is not a mapping in this recipe"
            raise RecipeError((_finding(layer, choice.place_path, message, "make it one"),)) from None
    name = build.data.get("name")
    if isinstance(name, str):
        build = Layer(
            {**build.data, "name": "-".join((name, *(choice.label for choice in choices)))}, build.places
        )
    return build.copied()


def _label(value: object, number: int) -> str:
    text = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.") for word in _leaves(value))
    return text if 0 < len(text) <= _MAX_LABEL else str(number)


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for below in value.values():
            yield from _leaves(below)
    elif isinstance(value, list):
        for below in value:
            yield from _leaves(below)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    else:
        yield "none" if value is None else str(value)


def _require_unique_names(layer: Layer, builds: list[Layer]) -> None:
    names = [build.data.get("name") for build in builds]
    twice = next((name for name in names if isinstance(name, str) and names.count(name) > 1), None)
    if twice is not None:
        message = f"two builds would both be called {twice}"
        hint = "remove the value that stands twice, or make the values differ"
        raise RecipeError((_finding(layer, ("matrix",), message, hint),))


def _finding(layer: Layer, path: KeyPath, message: str, hint: str) -> Finding:
    place = layer.places.of_key(path)
    return finding_at(place, rule=_RULE, path=dotted(path[:1]), message=_about(path, message), hint=hint)


def _about(path: KeyPath, message: str) -> str:
    return f"axis {path[1]}: {message}" if len(path) > 1 else message
