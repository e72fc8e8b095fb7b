"""The valid words of a recipe at any path, and the nearest one to a wrong word.

Derived from the models in `schema`, so that `--set`, `matrix:` and error messages never know a key that
the schema does not have.
"""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from bwdeploy.recipe.schema import Recipe, Section

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bwdeploy.recipe.places import KeyPath

COMPOSITION_KEYS = ("base", "matrix")
"""Keys of a recipe file that are worked in before validation and are not part of `Recipe`."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """The valid word most like `word`, or an empty string."""
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    lowered = {candidate.lower(): candidate for candidate in valid}
    near = get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[near[0]] if near else ""


def section_fields(section: type[Section]) -> dict[str, Any]:
    """Key → annotation of one section, under the names that users write."""
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def words_at(path: KeyPath) -> tuple[str, ...]:
    """The valid keys of the mapping at `path`; empty where any key (or no key) may stand."""
    section = _section_at(path)
    if section is None:
        return ()
    return (*section_fields(section), *(COMPOSITION_KEYS if not path else ()))


def unknown_word_hint(word: str, path: KeyPath) -> str:
    """What to say about a key that the mapping at `path` does not have."""
    valid = words_at(path)
    if near := nearest(word, valid):
        return f"did you mean {near}"
    if elsewhere := paths_ending_in(word):
        return f"did you mean {' or '.join(elsewhere)}"
    return "valid here: " + ", ".join(valid) if valid else "remove it"


def path_problem(path: tuple[str, ...]) -> tuple[str, str] | None:
    """Message and hint when no recipe can have a value at `path`, else None."""
    annotation: Any = Recipe
    for depth, word in enumerate(path):
        section = _as_section(annotation)
        if section is None:
            if _is_mapping(annotation):
                return None
            parent = ".".join(path[:depth])
            return f"{parent} is a single value, so {'.'.join(path)} does not exist", f"name {parent} itself"
        fields = section_fields(section)
        if word not in fields:
            near = nearest(word, fields)
            whole = ".".join((*path[:depth], near)) if near else ""
            elsewhere = [] if near else paths_ending_in(word)
            hint = f"did you mean {whole or ' or '.join(elsewhere)}" if whole or elsewhere else (
                "valid here: " + ", ".join(fields)
            )  # fmt: skip
            return f"no recipe has the key {'.'.join(path[: depth + 1])}", hint
        annotation = fields[word]
    return None


def paths_ending_in(word: str) -> list[str]:
    """Dotted paths of the fields called `word`, at most three."""
    return [".".join(path) for path in _all_fields() if path[-1] == word][:3]


@cache
def _all_fields() -> tuple[tuple[str, ...], ...]:
    def walk(section: type[Section], prefix: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        for name, annotation in section_fields(section).items():
            yield (*prefix, name)
            below = _as_section(annotation)
            if below is not None:
                yield from walk(below, (*prefix, name))

    return tuple(walk(Recipe, ()))


def _section_at(path: KeyPath) -> type[Section] | None:
    annotation: Any = Recipe
    for part in path:
        if isinstance(part, int):
            arguments = get_args(annotation)
            annotation = arguments[0] if get_origin(annotation) is tuple and arguments else None
            continue
        section = _as_section(annotation)
        if section is None:
            return None
        annotation = section_fields(section).get(part)
    return _as_section(annotation)


def _as_section(annotation: object) -> type[Section] | None:
    """The section that an annotation stands for, also an optional one."""
    for one in get_args(annotation) if isinstance(annotation, UnionType) else (annotation,):
        if isinstance(one, type) and issubclass(one, Section):
            return one
    return None


def _is_mapping(annotation: object) -> bool:
    return get_origin(annotation) is dict
