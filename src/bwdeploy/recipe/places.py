"""Where each key and value of a recipe was written: file, line and column.

A path is a tuple of keys and list indices, `("quantize", "overrides", 0, "format")`; its dotted form is
what people read and type. Places survive `base:` merging and `matrix:` expansion, so that a finding names
the line that really said it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

KeyPath = tuple[str | int, ...]


class Place(NamedTuple):
    """One spot in a file, or a value of the command line."""

    file: str = ""
    """Empty when the value was given on the command line."""
    line: int = 0
    """1-based."""
    column: int = 0
    """1-based."""
    text: str = ""
    """The scalar as it was written, for example `1.10` where its value is the number 1.1."""
    option: str = ""
    """The option that gave it, for example `--set engine.max_batch_size=8`."""


class Places(NamedTuple):
    """Places of keys and of values by path; the two differ, and messages point to the better one."""

    keys: dict[KeyPath, Place]
    values: dict[KeyPath, Place]

    def of_key(self, path: KeyPath) -> Place:
        """Where the key of `path` stands, or else the nearest thing around it."""
        return self.keys.get(path) or self.of_value(path)

    def of_value(self, path: KeyPath) -> Place:
        """Where the value of `path` stands, or else the nearest thing around it."""
        for end in range(len(path), -1, -1):
            found = self.values.get(path[:end])
            if found is not None:
                return found
        return Place()

    def without(self, path: KeyPath) -> Places:
        """The same places less everything at and below `path`."""
        return Places(_outside(self.keys, path), _outside(self.values, path))

    def below(self, path: KeyPath) -> Places:
        """The places at and below `path`, as seen from there."""
        return Places(_inside(self.keys, path), _inside(self.values, path))

    def with_below(self, path: KeyPath, other: Places) -> Places:
        """These places with `other` put at `path`; where both know a path, `other` wins."""
        keys = {**self.keys, **{(*path, *key): place for key, place in other.keys.items()}}
        values = {**self.values, **{(*path, *key): place for key, place in other.values.items()}}
        return Places(keys, values)


def dotted(path: KeyPath) -> str:
    """The path as people write it: `quantize.overrides[0].format`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def path_within(path: KeyPath, data: Any) -> KeyPath:  # noqa: ANN401 - JSON data
    """The part of a path that exists in the data: pydantic adds the names of the choices it tried."""
    for depth, part in enumerate(path):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return path[:depth]
    return path


def value_at(data: Any, path: KeyPath) -> Any:  # noqa: ANN401 - JSON data
    """The value at a path that exists."""
    for part in path:
        data = data[part]
    return data


def _outside(places: dict[KeyPath, Place], path: KeyPath) -> dict[KeyPath, Place]:
    return {key: place for key, place in places.items() if key[: len(path)] != path}


def _inside(places: dict[KeyPath, Place], path: KeyPath) -> dict[KeyPath, Place]:
    return {key[len(path) :]: place for key, place in places.items() if key[: len(path)] == path}
