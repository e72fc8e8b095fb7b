"""Typed access to the tables of an op.toml that notes what is wrong and goes on, so that all is told at once.

A value that is wrong comes back empty; `ProblemList.raise_if_any` then ends the reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class ProblemList:
    """What is wrong with one file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._findings: list[Finding] = []

    def add(self, path: str, message: str, hint: str) -> None:
        """Note a problem at the key `path`."""
        self._findings.append(
            Finding(
                rule="kernel-declaration",
                severity="error",
                path=path,
                message=message,
                hint=hint,
                file=str(self._file),
            )
        )

    def raise_if_any(self) -> None:
        """Raise what was noted.

        Raises:
            RecipeError: something was.
        """
        if self._findings:
            raise RecipeError(tuple(self._findings))


class DeclaredTable:
    """One table of the file."""

    def __init__(self, values: Mapping[str, Any], problems: ProblemList, *, path: str = "") -> None:
        self._values = values
        self._problems = problems
        self._path = path

    def refuse(self, key: str, message: str, hint: str) -> None:
        """Note a problem of a key of this table."""
        self._problems.add(f"{self._path}{key}", message, hint)

    def only_keys(self, known: tuple[str, ...]) -> None:
        """Note each key that nothing reads."""
        for key in self._values:
            if key not in known:
                near = nearest(key, known)
                self.refuse(
                    key, "unknown key", f"did you mean {near}" if near else f"keys: {', '.join(known)}"
                )

    def text(self, key: str) -> str:
        """The text at `key`, not empty."""
        value = self._values.get(key)
        if not isinstance(value, str) or not value.strip():
            self._wrong(key, value, "text")
            return ""
        return value

    def word(self, key: str, valid: tuple[str, ...]) -> str:
        """The text at `key`, one of `valid`."""
        value = self._values.get(key)
        if not isinstance(value, str) or value not in valid:
            self._wrong(key, value, f"one of {', '.join(valid)}")
            return ""
        return value

    def words(self, key: str, valid: tuple[str, ...]) -> tuple[str, ...]:
        """The list at `key`, each one of `valid`."""
        return tuple(value for value in self._strings(key) if self._is_valid(key, value, valid))

    def texts(self, key: str, pattern: re.Pattern[str], wanted: str) -> tuple[str, ...]:
        """The list at `key`, each like `pattern`."""
        values = self._strings(key)
        for value in values:
            if not pattern.fullmatch(value):
                self._wrong(key, value, wanted)
        return values

    def positive_numbers(self, key: str) -> tuple[int, ...]:
        """The list of whole numbers above 0 at `key`."""
        values = self._list(key, "a list of numbers of GPUs")
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._wrong(key, value, "whole numbers above 0")
                return ()
        return tuple(values)

    def text_mapping(self, key: str, pattern: re.Pattern[str]) -> dict[str, str]:
        """The table name → text at `key`, empty when there is none; names are like `pattern`."""
        values = self._values.get(key, {})
        fits = isinstance(values, dict) and all(
            pattern.fullmatch(name) and isinstance(value, str) for name, value in values.items()
        )
        if not fits:
            self._wrong(key, values, 'a table like { MACRO = "text" }')
            return {}
        return dict(values)

    def tables(self, key: str) -> Iterator[DeclaredTable]:
        """The tables of the list at `key`."""
        for index, value in enumerate(self._list(key, f"at least one [[{key}]]")):
            if isinstance(value, dict):
                yield DeclaredTable(value, self._problems, path=f"{self._path}{key}[{index}].")
            else:
                self._wrong(key, value, f"tables: [[{key}]]")

    def _strings(self, key: str) -> tuple[str, ...]:
        values = self._list(key, "a list of texts")
        for value in values:
            if not isinstance(value, str):
                self._wrong(key, value, "texts")
                return ()
        if len(set(values)) < len(values):
            self.refuse(key, "names something twice", "name it once")
        return tuple(values)

    def _list(self, key: str, wanted: str) -> list[Any]:
        value = self._values.get(key)
        if not isinstance(value, list) or not value:
            self._wrong(key, value, wanted)
            return []
        return value

    def _is_valid(self, key: str, value: str, valid: tuple[str, ...]) -> bool:
        if value not in valid:
            self._wrong(key, value, f"of {', '.join(valid)}")
        return value in valid

    def _wrong(self, key: str, value: object, wanted: str) -> None:
        got = "nothing" if value is None else repr(value)
        self.refuse(key, f"got {got}, wanted {wanted}", "correct it as in the ops that ship with bwdeploy")
