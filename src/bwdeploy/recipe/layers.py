"""Recipe data with its places, and the two ways to combine it: deep merge and putting a value at a path."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from bwdeploy.recipe.places import KeyPath, Places
from bwdeploy.recipe.shorthand import written_out


class Layer(NamedTuple):
    """Plain data and where each part of it was written."""

    data: dict[str, Any]
    places: Places

    def copied(self) -> Layer:
        """The same layer with data of its own."""
        return Layer(copy.deepcopy(self.data), self.places)


class NotAMappingError(Exception):
    """A path leads through something that is not a mapping."""

    def __init__(self, path: KeyPath) -> None:
        super().__init__(path)
        self.path = path


def merge(lower: Layer, upper: Layer) -> Layer:
    """`upper` over `lower`: mappings are merged key by key, everything else is replaced."""
    replaced: set[KeyPath] = set()
    data = _merged(lower.data, upper.data, (), replaced)
    kept = Places(_kept(lower.places.keys, replaced), _kept(lower.places.values, replaced))
    return Layer(data, kept.with_below((), upper.places))


def put(layer: Layer, path: tuple[str, ...], value: Any, places: Places) -> Layer:  # noqa: ANN401 - JSON data
    """`layer` with `value` at `path`; a mapping is merged into a mapping that stands there.

    Raises:
        NotAMappingError: something on the way is not a mapping.
    """
    at: Any = layer.data
    for depth, word in enumerate(path[:-1]):
        if word not in at:
            break
        at = at[word]
        if not isinstance(at, dict):
            raise NotAMappingError(path[: depth + 1])
    nested: Any = written_out(path, value)
    for word in reversed(path):
        nested = {word: nested}
    return merge(layer, Layer(nested, Places({}, {}).with_below(path, places)))


def _merged(
    lower: dict[str, Any], upper: dict[str, Any], path: KeyPath, replaced: set[KeyPath]
) -> dict[str, Any]:
    result = dict(lower)
    for key, value in upper.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(lower.get(key), dict):
            result[key] = _merged(lower[key], value, here, replaced)
            continue
        if key in lower:
            replaced.add(here)
        result[key] = value
    return result


def _kept(places: dict[KeyPath, Any], replaced: set[KeyPath]) -> dict[KeyPath, Any]:
    if not replaced:
        return places
    return {
        path: place
        for path, place in places.items()
        if not any(path[:end] in replaced for end in range(1, len(path) + 1))
    }
