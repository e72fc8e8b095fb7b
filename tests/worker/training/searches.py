"""Searches for formats in this process, so that ModelOpt is imported once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.pipeline.training_jobs import QuantizeTrained, TrainedResult
from bwdeploy.recipe.schema import FormatSearch
from bwdeploy.worker.training.search import run_search
from tests.worker.jobs_in_process import quantize_fields

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Progress

BUDGET = 6.0


class Searched(NamedTuple):
    """A search, what it wrote, and what it said."""

    result: TrainedResult
    out: Path
    state: Path
    said: list[Progress]


def search_tiny(source: Path, place: Path, *, state: Path | None = None, **changes: Any) -> Searched:
    """Search and quantize `source` below `place`; `changes` are fields of the request."""
    out, state, said = place / "out", state or place / "state", list[Any]()
    out.mkdir(parents=True)
    state.mkdir(exist_ok=True)
    fields = quantize_fields(source, out) | {
        "method": "auto",
        "search": FormatSearch(effective_bits=BUDGET, score_batches=2),
        "state": state,
    }
    return Searched(run_search(QuantizeTrained(**fields | changes), said.append), out, state, said)
