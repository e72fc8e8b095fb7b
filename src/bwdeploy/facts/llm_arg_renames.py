"""Keys and values that one TensorRT-LLM version does not want, with what to write in their place.

Derived from the spellings of all versions (see `llm_arg_spellings`), for the checker; it changes no argument.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from bwdeploy.facts.llm_arg_spellings import concepts, containers
from bwdeploy.facts.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.llm_arg_spellings import ArgumentPath, Concept, Spelling
    from bwdeploy.facts.versions import Version

_LISTED = ("1.2.1", "1.3.0rc20", "1.3.0rc29", "1.4.0rc1")
"""Versions between which no row changes its mind, out of those with a bundled list."""


class Rename(NamedTuple):
    """A key or value of an old recipe, and what to write for the versions it speaks about."""

    found: ArgumentPath
    use: str
    """Empty: drop the key."""
    value: str | None
    """The row is about that value only."""
    when: tuple[tuple[str, str], ...]
    """Sibling keys that must have these values."""
    severity: Literal["error", "warning"]
    why: str


@cache
def renames(version: str) -> tuple[Rename, ...]:
    """What `version` does not want; nothing when it is not a version."""
    parsed = parse_version(version)
    if parsed is None:
        return ()
    held = [Rename(found, use, None, (), "error", why) for found, use, why in containers()]
    return (*held, *(row for concept in concepts() for row in _rows(concept, parsed)))


@cache
def always_renamed() -> tuple[Rename, ...]:
    """What no version with a bundled list wants, whatever its value."""
    first, *others = (renames(version) for version in _LISTED)
    return tuple(
        row
        for row in first
        if all(row in rows for rows in others)
        and row.value is None
        and not row.when
        and row.severity == "error"
    )


def _rows(concept: Concept, version: Version) -> Iterator[Rename]:
    right = concept.spelling_for(version)
    taken = {spelling.path for spelling in concept.spellings if spelling.holds(version)}
    for spelling in concept.spellings:
        if concept.always:
            yield Rename(spelling.path, "", None, concept.when, "error", concept.always)
        elif spelling.path not in taken and not _in_container(spelling.path):
            yield _row_of_key(concept, spelling, right, version)
    if right is not None:
        yield from _rows_of_values(concept, right)


def _row_of_key(concept: Concept, spelling: Spelling, right: Spelling | None, version: Version) -> Rename:
    tolerated = spelling.tolerated if spelling.tolerated and version >= spelling.before else ""
    why = tolerated or spelling.why or ("" if right else concept.why)
    use = _advice(concept, spelling, right) if right else ""
    return Rename(spelling.path, use, None, concept.when, "warning" if tolerated else "error", why)


def _advice(concept: Concept, spelling: Spelling, right: Spelling) -> str:
    path = ".".join(right.path)
    if spelling.advice:
        return spelling.advice
    if "invert" in {spelling.form, right.form} and spelling.form != right.form:
        return f"{path}, with the opposite value"
    if spelling.form == "switch" and right.form != "switch" and concept.switch_advice:
        return concept.switch_advice
    return path


def _rows_of_values(concept: Concept, right: Spelling) -> Iterator[Rename]:
    for value, instead in concept.discouraged.items():
        yield Rename(right.path, instead, value, concept.when, "warning", concept.discouraged_why)
    for value in right.collapse:
        yield Rename(right.path, right.advice, value, concept.when, "error", "")
    for value, instead in right.values.items():
        if isinstance(instead, str):
            yield Rename(right.path, instead, value, concept.when, "error", "")
    for other in concept.spellings:
        if other.path == right.path and not right.values:
            yield from (_row_of_old_value(concept, value, old) for value, old in other.values.items())


def _row_of_old_value(concept: Concept, value: str, old: str) -> Rename:
    why = concept.tolerated_values.get(old, "")
    return Rename(concept.name, value, old, concept.when, "warning" if why else "error", why)


def _in_container(path: ArgumentPath) -> bool:
    return any(path[: len(held)] == held for held, _, _ in containers())
