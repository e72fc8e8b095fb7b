"""Typed access to a JSON object that nobody vouches for; every error names the place and what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy_kernels.errors import ManifestError

if TYPE_CHECKING:
    import re
    from collections.abc import Sequence

_SHOWN = 80
_LONGEST = 1000
"""Entries of a list or keys of an object."""


class JsonObject:
    """An object at a known place of a file; every method raises ManifestError when the value is of no use."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _error(where, value, "an object")
        if len(value) > _LONGEST:
            raise ManifestError(f"{where}: got {len(value)} keys, wanted at most {_LONGEST}.")
        self.where = where
        self._values: dict[str, object] = value

    def keys(self, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """All keys, each of which has to match."""
        for key in self._values:
            if pattern and not pattern.fullmatch(key):
                raise _error(self.where, key, f"keys like {pattern.pattern}")
        return tuple(self._values)

    def only_keys(self, *known: str) -> None:
        """Refuse keys that this release does not know and so would not heed."""
        unknown = [key for key in self._values if key not in known]
        if unknown:
            raise _error(self.where, unknown[0], f"no other keys than {', '.join(known)}")

    def child(self, key: str) -> JsonObject:
        """The object at `key`."""
        return JsonObject(self._get(key), f"{self.where}.{key[:_SHOWN]}")

    def children(self, key: str) -> tuple[JsonObject, ...]:
        """The objects of the list at `key`."""
        return tuple(
            JsonObject(item, f"{self.where}.{key}[{index}]") for index, item in enumerate(self._list(key))
        )

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """The text at `key`, which has to match as a whole."""
        return self._text(self._get(key), f"{self.where}.{key[:_SHOWN]}", pattern)

    def one_of(self, key: str, words: Sequence[str]) -> str:
        """The text at `key`, which has to be one of `words`."""
        value = self.text(key)
        if value not in words:
            raise _error(f"{self.where}.{key}", value, " or ".join(words))
        return value

    def texts(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """The non-empty list of texts at `key`."""
        items = self._list(key)
        if not items:
            raise _error(f"{self.where}.{key}", items, "at least one text")
        return tuple(
            self._text(item, f"{self.where}.{key}[{index}]", pattern) for index, item in enumerate(items)
        )

    def integer(self, key: str) -> int:
        """The whole number at `key`."""
        return self._integer(self._get(key), f"{self.where}.{key}")

    def integers(self, key: str) -> tuple[int, ...]:
        """The list of whole numbers at `key`."""
        return tuple(self._integer(item, f"{self.where}.{key}[]") for item in self._list(key))

    def _get(self, key: str) -> object:
        if key not in self._values:
            raise ManifestError(f"{self.where}: got no {key}, wanted one. Build the pack again.")
        return self._values[key]

    def _list(self, key: str) -> list[object]:
        value = self._get(key)
        if not isinstance(value, list):
            raise _error(f"{self.where}.{key}", value, "a list")
        if len(value) > _LONGEST:
            raise ManifestError(f"{self.where}.{key}: got {len(value)} entries, wanted at most {_LONGEST}.")
        return value

    @staticmethod
    def _text(value: object, where: str, pattern: re.Pattern[str] | None) -> str:
        if not isinstance(value, str) or not value:
            raise _error(where, value, "text")
        if pattern and not pattern.fullmatch(value):
            raise _error(where, value, f"text like {pattern.pattern}")
        return value

    @staticmethod
    def _integer(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _error(where, value, "a whole number")
        return value


def _error(where: str, value: object, wanted: str) -> ManifestError:
    got = f"a {type(value).__name__}" if isinstance(value, dict | list) else repr(value)[:_SHOWN]
    return ManifestError(f"{where}: got {got}, wanted {wanted}.")
