"""Acceptance lengths and timings of drafts that somebody wrote down: the files of `draft measure`.

    acceptance  {"acceptance_length": [at k = 1, at k = 2, …]}
    timings     {"step_ms": {"0": ms, "3": ms, …}}                       of one batch size, by draft length
                {"timings": [{"batch_size": 1, "step_ms": {…}}, …]}      of several, as in acceptance.json

The outer names of timings may be left out, batch sizes may be keys, {"1": {"0": ms, …}, "8": {…}}, and steps
may be lists: see `timing_forms`.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from bwdeploy.errors import argument_error
from bwdeploy.estimate.timing_forms import timing_entries
from bwdeploy.planner.speed.draft_choice import BatchTimes
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_BYTES = 1 << 20
_NOISE = 0.95
"""Lengths are measured one by one, so that a longer one may come out a little lower."""
_MOST_DRAFTED = 256
_MOST_BATCH = 65_536
_MOST_BATCHES = 64
_MOST_MS = 1e7
_LENGTHS = "acceptance_length"
_LENGTHS_HINT = 'Write {"acceptance_length": [tokens gained in a step at k = 1, at k = 2, …]}'
_TIMES_HINT = (
    'Write {"step_ms": {"0": MS, "3": MS}}, milliseconds of a step by draft length, or'
    ' {"timings": [{"batch_size": 1, "step_ms": {…}}, …]}'
)
_ENTRY_KEYS = ("batch_size", "step_ms", "target_ms", "draft_ms")


class Table(NamedTuple):
    """What was read, and what of the file was not."""

    lengths: dict[int, float]
    """Draft length → acceptance length, from 1 upward."""
    unused: tuple[str, ...] = ()


class Timings(NamedTuple):
    """What was read, and what of the file was not."""

    batches: tuple[BatchTimes, ...]
    unused: tuple[str, ...] = ()


def read_acceptance_file(file: Path) -> Table:
    """The acceptance lengths of a file.

    Raises:
        RecipeError: it cannot be read, or no draft accepts like that.
    """
    place = f"--acceptance: {file}"
    document = _document(file, place, _LENGTHS_HINT)
    if not isinstance(document, dict) or _LENGTHS not in document:
        near = nearest(_LENGTHS, list(document)) if isinstance(document, dict) else None
        found = f"; is {near!r} meant?" if near else ""
        raise argument_error(f"{place} has no {_LENGTHS}{found}", _LENGTHS_HINT)
    values = document[_LENGTHS]
    if not isinstance(values, list) or not 1 <= len(values) <= _MOST_DRAFTED:
        raise argument_error(
            f"{place}: {_LENGTHS} is no list of 1 to {_MOST_DRAFTED} acceptance lengths", _LENGTHS_HINT
        )
    lengths = {
        k: _number(value, f"{place}: {_LENGTHS} at k = {k}", _LENGTHS_HINT)
        for k, value in enumerate(values, start=1)
    }
    _refuse_impossible(lengths, place)
    return Table(lengths, tuple(key for key in document if key != _LENGTHS))


def read_timings_file(file: Path) -> Timings:
    """The timings of a file.

    Raises:
        RecipeError: it cannot be read, or there are too few timings for a line.
    """
    place = f"--timings: {file}"
    document = _document(file, place, _TIMES_HINT)
    entries = list(_entries(document, place))
    if not 1 <= len(entries) <= _MOST_BATCHES:
        raise argument_error(
            f"{place} has timings of {len(entries)} batch sizes", f"Give 1 to {_MOST_BATCHES}"
        )
    batches: dict[int, BatchTimes] = {}
    for entry in entries:
        one = _batch_times(entry, place)
        if one.batch_size in batches:
            raise argument_error(f"{place} has batch size {one.batch_size} twice", "Keep one")
        batches[one.batch_size] = one
    return Timings(tuple(batches.values()), _unused(document, entries))


def _unused(document: Any, entries: list[dict[str, Any]]) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    """Names in the file that nothing was read from; draft lengths and batch sizes are no names."""
    outer = document if isinstance(document, dict) and "timings" in document else {}
    return tuple(sorted({key for part in (outer, *entries) for key in part} - {*_ENTRY_KEYS, "timings"}))


def _refuse_impossible(lengths: dict[int, float], place: str) -> None:
    """What no draft can accept: less than one token a step, more than it drafted, less for drafting more."""
    before = 1.0
    for k, length in lengths.items():
        if not 1 <= length <= k + 1:
            raise argument_error(
                f"{place}: {length:g} at k = {k} is impossible: a step with {k} drafted tokens gains 1 to"
                f" {k + 1}",
                "Give tokens gained in a step, the model's own included, not the rate of acceptance",
            )
        if length < before * _NOISE:
            raise argument_error(
                f"{place}: the acceptance length falls from {before:g} to {length:g} at k = {k}: a longer"
                " draft cannot be accepted less",
                "Look at the order of the values, or give what was measured on the same prompts",
            )
        if k > 1 and before == 1 < length:
            raise argument_error(
                f"{place}: {length:g} at k = {k} after 1 at k = {k - 1} is impossible: where no first token"
                " is accepted no second one can be",
                "The list begins at k = 1: leave the 1.0 of k = 0 out",
            )
        before = length


def _entries(document: Any, place: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    """The timings of each batch size."""
    entries = timing_entries(document)
    if not all(isinstance(one, dict) for one in entries):
        raise argument_error(f"{place} is no table of timings", _TIMES_HINT)
    yield from entries


def _batch_times(entry: dict[str, Any], place: str) -> BatchTimes:
    size = _count(entry.get("batch_size", 1), _MOST_BATCH, least=1, what=f"{place}: batch_size")
    steps = entry.get("step_ms")
    where = f"{place}: batch size {size}"
    if not isinstance(steps, dict):
        raise argument_error(f"{where}: step_ms is no mapping of draft lengths to milliseconds", _TIMES_HINT)
    found = {
        _count(k, _MOST_DRAFTED, least=0, what=f"{where}: draft length"): _milliseconds(
            ms, f"{where}: k = {k}"
        )
        for k, ms in steps.items()
    }
    if "target_ms" in entry:
        plain = _milliseconds(entry["target_ms"], f"{where}: target_ms")
        if found.setdefault(0, plain) != plain:
            raise argument_error(f"{where} has two times without a draft", "Keep target_ms or k = 0")
    if len(found) < 2:  # noqa: PLR2004 - a line has two ends
        raise argument_error(
            f"{where} has timings of {len(found)} draft lengths: t0 and δ need two",
            "Measure one step more, for example without a draft (k = 0)",
        )
    return BatchTimes(size, found)


def _milliseconds(value: Any, what: str) -> float:  # noqa: ANN401 - JSON
    number = _number(value, what, _TIMES_HINT)
    if not 0 < number <= _MOST_MS:
        raise argument_error(
            f"{what} takes {number:g} ms", f"Give milliseconds above 0 and up to {_MOST_MS:g}"
        )
    return number


def _count(value: Any, most: int, *, least: int, what: str) -> int:  # noqa: ANN401 - JSON
    text = value if isinstance(value, str) else repr(value)
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:  # noqa: PLR2004
        return int(text)
    raise argument_error(f"{what} {_shown(value)} is no whole number from {least} to {most}", _TIMES_HINT)


def _number(value: Any, what: str, hint: str) -> float:  # noqa: ANN401 - JSON
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise argument_error(f"{what} is {_shown(value)}, not a finite number", hint)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - of a line


def _document(file: Path, place: str, hint: str) -> Any:  # noqa: ANN401 - JSON
    """The JSON of a file; every reason not to have it is one error."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise argument_error(f"{place} cannot be read: {error.strerror}", "Name a JSON file") from error
    if len(content) > _MOST_BYTES:
        raise argument_error(f"{place} is larger than {_MOST_BYTES:,} bytes", hint)
    try:
        return json.loads(
            content.decode("utf-8-sig"), parse_constant=_no_number, object_pairs_hook=_without_twins
        )
    except RecursionError as error:
        raise argument_error(f"{place} is nested too deeply", hint) from error
    except ValueError as error:
        raise argument_error(f"{place} is not JSON: {error}", hint) from error


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found
