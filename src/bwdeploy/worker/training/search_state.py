"""Keeps what a search found, so that a build that was interrupted afterwards does not search again.

The state is one JSON file, written beside and renamed; one that another request wrote, or that cannot be
read, counts as none.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bwdeploy.pipeline.jobs import JobData
from bwdeploy.pipeline.training_jobs import LayerSensitivity
from bwdeploy.worker.process import write_atomically

if TYPE_CHECKING:
    from bwdeploy.pipeline.training_jobs import QuantizeTrained

_LOG = logging.getLogger(__name__)
_FILE = "search.json"


class SearchOutcome(JobData):
    """What a search found."""

    effective_bits: float
    sensitivity: tuple[LayerSensitivity, ...]
    unquantized: tuple[str, ...]
    """Layers that were not searched and that no override decides."""
    seconds: dict[str, float]


class _Kept(JobData):
    digest: str
    outcome: SearchOutcome


def kept_outcome(request: QuantizeTrained) -> SearchOutcome | None:
    """What an earlier run of the same request found; None: nothing."""
    path = request.state / _FILE
    if not path.is_file():
        return None
    try:
        kept = _Kept.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        _LOG.warning("%s cannot be read; searching again", path)
        return None
    return kept.outcome if kept.digest == _digest(request) else None


def keep_outcome(request: QuantizeTrained, outcome: SearchOutcome) -> None:
    """Write `outcome` for later runs of `request`."""
    path = request.state / _FILE
    kept = _Kept(digest=_digest(request), outcome=outcome)
    write_atomically(path, kept.model_dump_json(indent=1))


def _digest(request: QuantizeTrained) -> str:
    """Of all that the outcome depends on; the checkpoint's place is not part of it."""
    said = request.model_dump_json(exclude={"out", "state"})
    return hashlib.sha256(said.encode()).hexdigest()
