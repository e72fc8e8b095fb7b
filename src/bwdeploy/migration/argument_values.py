"""What one spelling of an LLM API argument does to its value, forwards and back.

The concept's own value is what the newest version writes: a mapping for a switch, upper bounds for a draft
length schedule. Which key it stands under is not known here (see `arguments`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bwdeploy.facts.llm_arg_spellings import Spelling

_DEFAULT_BATCH = 2048
"""The largest batch of 1.3 and later when nobody sets one."""


def meant(value: Any, spelling: Spelling, batch: int | None) -> Any:  # noqa: ANN401 - JSON data
    """What a value written under `spelling` stands for; `batch` is the largest batch, in requests."""
    if spelling.form == "switch" and isinstance(value, bool):
        return {} if value else None
    if spelling.form == "invert" and isinstance(value, bool):
        return not value
    if spelling.form == "schedule" and isinstance(value, dict):
        return upper_bounds(value, batch or _DEFAULT_BATCH)
    return next((mine for mine, theirs in spelling.values.items() if _same(theirs, value)), value)


def written(value: Any, spelling: Spelling, batch: int | None) -> Any:  # noqa: ANN401 - JSON data
    """How `spelling` writes a concept's value that it can write."""
    if spelling.form == "switch":
        return value is not None
    if spelling.form == "invert" and isinstance(value, bool):
        return not value
    if spelling.form == "schedule" and isinstance(value, dict):
        return lower_bounds(value, batch or _DEFAULT_BATCH)
    if isinstance(value, str) and value in spelling.collapse:
        return spelling.collapse[value]
    if spelling.values and isinstance(value, str) and value in spelling.values:
        return spelling.values[value]
    return value


def can_write(value: object, spelling: Spelling) -> bool:
    """Whether the versions of `spelling` have this value: one that was true or false has only those two."""
    closed = any(isinstance(theirs, bool) for theirs in spelling.values.values())
    return not closed or (isinstance(value, str) and value in spelling.values)


def upper_bounds(schedule: dict[Any, Any], batch: int) -> dict[Any, Any]:
    """A schedule {batch size from which on: draft length} as {batch size up to which: draft length}.

    A length of 0 ends the schedule: above its last bound nothing is drafted.
    """
    steps = _steps(schedule)
    if steps is None:
        return schedule
    ends = [start - 1 for start, _ in steps[1:]] + [max(batch, steps[-1][0])]
    return {_like(schedule, end): length for end, (_, length) in zip(ends, steps, strict=True) if length}


def lower_bounds(schedule: dict[Any, Any], batch: int) -> dict[Any, Any]:
    """The other way round; a last bound of `batch` or more needs no closing 0."""
    steps = _steps(schedule)
    if steps is None:
        return schedule
    starts = [1] + [end + 1 for end, _ in steps[:-1]]
    bounds = {_like(schedule, start): length for start, (_, length) in zip(starts, steps, strict=True)}
    last = steps[-1][0]
    return bounds if last >= batch else {**bounds, _like(schedule, last + 1): 0}


def _steps(schedule: dict[Any, Any]) -> list[tuple[int, Any]] | None:
    """Its entries by batch size, None where it is no schedule."""
    try:
        steps = sorted((int(key), length) for key, length in schedule.items())
    except (TypeError, ValueError):
        return None
    return steps or None


def _like(schedule: dict[Any, Any], number: int) -> Any:  # noqa: ANN401 - int or str
    """A key as the schedule writes them: YAML read as a recipe has text keys."""
    return str(number) if any(isinstance(key, str) for key in schedule) else number


def _same(left: object, right: object) -> bool:
    return left == right and type(left) is type(right)
