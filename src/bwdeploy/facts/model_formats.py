"""Which weight formats upstream's documentation lists for which models, and pairs that are known to fail."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bwdeploy.facts.reader import read_data


class ListedModel(NamedTuple):
    """A row of upstream's table."""

    name: str
    """As the table has it."""
    columns: frozenset[str]
    """Formats that the row marks."""


class KnownBad(NamedTuple):
    """A model and format that did not work on some GPUs."""

    model_type_prefix: str
    column: str
    sm: frozenset[int]
    seen: str
    """What was seen, for messages."""
    source: str


def listed_model(model_type: str) -> ListedModel | None:
    """The row of models whose config.json says `model_type`."""
    return _rows().get(model_type)


def known_bad(model_type: str, column: str, sm: int) -> KnownBad | None:
    """A report that this pair fails on this compute capability."""
    return next(
        (
            row
            for row in _known_bad()
            if model_type.startswith(row.model_type_prefix) and row.column == column and sm in row.sm
        ),
        None,
    )


@cache
def _rows() -> dict[str, ListedModel]:
    return {
        model_type: ListedModel(row["name"], frozenset(row["columns"]))
        for row in read_data("model_formats.json")["families"]
        for model_type in row["model_types"]
    }


@cache
def _known_bad() -> tuple[KnownBad, ...]:
    rows = read_data("model_formats.json")["known_bad"]
    return tuple(KnownBad(**{**row, "sm": frozenset(row["sm"])}) for row in rows)
