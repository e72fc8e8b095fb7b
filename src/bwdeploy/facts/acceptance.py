"""Published acceptance lengths of speculative decoding, by model and method."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bwdeploy.facts.reader import read_data


class RelaxedLength(NamedTuple):
    """Acceptance with relaxed acceptance, where a nearly as likely token counts as accepted."""

    draft_len: int
    topk: int
    delta: float
    length: float


class AcceptanceTable(NamedTuple):
    """One published table."""

    id: str
    method: str
    """eagle3 or mtp, as in the recipe."""
    models: tuple[str, ...]
    """Parts of model names that it belongs to, in lower case."""
    lengths: dict[int, float]
    """Draft length → tokens gained in one step, the model's own token included."""
    relaxed: tuple[RelaxedLength, ...]
    workload: str
    source: str


@cache
def acceptance_tables() -> tuple[AcceptanceTable, ...]:
    """Every known table."""
    return tuple(
        AcceptanceTable(
            **{
                **row,
                "models": tuple(row["models"]),
                "lengths": {int(length): value for length, value in row["lengths"].items()},
                "relaxed": tuple(RelaxedLength(**one) for one in row.get("relaxed", ())),
            }
        )
        for row in read_data("acceptance.json")["tables"]
    )


def published_acceptance(model: str, method: str) -> AcceptanceTable | None:
    """The table of a model (its source or name) and a method, None when none is known."""
    name = model.lower()
    return next(
        (
            table
            for table in acceptance_tables()
            if table.method == method and any(part in name for part in table.models)
        ),
        None,
    )
