"""Typed, bounded access to the keys of a configuration that nobody has checked.

A JSON file may say anything: text for a number, true for 1, a negative size, a layer count of 10^12. Each
such value ends in a `ShapeError` that names the key. A key that is null counts as absent, as in transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bwdeploy.model.problem import ShapeError

MAX_SIZE = 2**24
"""Of any one dimension: sixteen million is ten times the largest vocabulary."""
MAX_LAYERS = 10_000
MAX_EXPERTS = 65_536
MAX_POSITIONS = 2**40
_MAX_SHOWN = 40
_COMPARE = "compare with the config.json that the model's publisher ships"


class Fields:
    """A configuration, or one section of it."""

    def __init__(self, config: Mapping[str, Any], *, section: str = "") -> None:
        self.config = config
        self.prefix = f"{section}." if section else ""

    def with_defaults(self, sizes: Iterable[tuple[str, int]]) -> Fields:
        """The same with these values for keys that are not there at all."""
        absent = {name: size for name, size in sizes if name not in self.config}
        return Fields({**self.config, **absent}, section=self.prefix.removesuffix(".")) if absent else self

    def has(self, *names: str) -> bool:
        """Whether one of the keys has a value."""
        return any(self.config.get(name) is not None for name in names)

    def number(
        self, *names: str, default: int | None = None, minimum: int = 1, maximum: int = MAX_SIZE
    ) -> int:
        """The first of the keys that has a value, a whole number within the bounds.

        Raises:
            ShapeError: none has a value and there is no default, or it is no such number.
        """
        found = self.optional(*names, minimum=minimum, maximum=maximum)
        if found is not None:
            return found
        if default is None:
            raise self.missing(names[0])
        return default

    def optional(self, *names: str, minimum: int = 1, maximum: int = MAX_SIZE) -> int | None:
        """As `number`, None where no key has a value.

        Raises:
            ShapeError: the value is no such number.
        """
        for name in names:
            value = self.config.get(name)
            if value is not None:
                return self._whole(name, value, minimum=minimum, maximum=maximum)
        return None

    def flag(self, name: str, *, default: bool) -> bool:
        """A key that is true or false.

        Raises:
            ShapeError: it is neither.
        """
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.impossible(name, f"is {_shown(value)}, neither true nor false")
        return value

    def text(self, *names: str) -> str:
        """The first key that has a value; empty without one.

        Raises:
            ShapeError: it is not text.
        """
        for name in names:
            value = self.config.get(name)
            if value is not None:
                if not isinstance(value, str):
                    raise self.impossible(name, f"is {_shown(value)}, not text")
                return value
        return ""

    def words(self, name: str, *, length: int | None = None) -> tuple[str, ...] | None:
        """A list of words, None without the key.

        Raises:
            ShapeError: it is no such list, or not of that length.
        """
        values = self._items(name)
        if values is None:
            return None
        if not all(isinstance(value, str) for value in values):
            raise self.impossible(name, "is not a list of words")
        if length is not None and len(values) != length:
            raise self.impossible(name, f"has {len(values)} entries for {length} layers")
        return tuple(values)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers of at least 0, None without the key.

        Raises:
            ShapeError: it is no such list.
        """
        values = self._items(name)
        if values is None:
            return None
        return tuple(self._whole(name, value, minimum=0, maximum=MAX_SIZE) for value in values)

    def section(self, name: str) -> Fields | None:
        """A mapping inside this one, None without the key.

        Raises:
            ShapeError: it is no mapping.
        """
        value = self.config.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.impossible(name, f"is {_shown(value)}, not a section of keys")
        return Fields(value, section=f"{self.prefix}{name}")

    def impossible(self, name: str, what: str, *, hint: str = _COMPARE) -> ShapeError:
        """The error that says what the value of a key is; the caller raises it."""
        field = f"{self.prefix}{name}"
        return ShapeError(field, f"{field} {what}", hint)

    def missing(self, name: str) -> ShapeError:
        """The error for a key that must be there."""
        field = f"{self.prefix}{name}"
        return ShapeError(field, f"{field} is missing", _COMPARE, kind="missing-field")

    def _items(self, name: str) -> list[Any] | None:
        value = self.config.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > MAX_EXPERTS:
            raise self.impossible(name, f"is {_shown(value)}, not a list")
        return list(value)

    def _whole(self, name: str, value: object, *, minimum: int, maximum: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.impossible(name, f"is {_shown(value)}, not a whole number")
        if not minimum <= value <= maximum:
            limit = f"at least {minimum}" if value < minimum else f"at most {maximum}"
            raise self.impossible(name, f"is {_shown(value)}; it must be {limit}")
        return value


def _shown(value: object) -> str:
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else repr(value)
    return text if text is not None and len(text) <= _MAX_SHOWN else f"{str(text)[: _MAX_SHOWN - 1]}…"
