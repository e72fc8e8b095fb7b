"""Train a draft in several processes of this machine, and bring back what rank 0 measured."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bwdeploy.errors import BwdeployError, Finding, HostError, RecipeError, StoreError, ToolError
from bwdeploy.pipeline.jobs import Progress, to_json
from bwdeploy.pipeline.training_jobs import DraftTrainingResult
from bwdeploy.tools.rank_children import run_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.training_jobs import TrainDraft

_LOG = logging.getLogger(__name__)
_MODULE = "bwdeploy.worker.drafts.rank"


def train_in_processes(request: TrainDraft, report: Callable[[Progress], None]) -> DraftTrainingResult:
    """Run `request` in `training.gpus` processes.

    Raises:
        BwdeployError: what the first of them that failed says.
    """

    def forward(line: str) -> None:
        try:
            report(Progress.model_validate_json(line))
        except ValidationError:
            _LOG.info("rank 0: %s", line.rstrip())

    with tempfile.TemporaryDirectory(dir=request.state, prefix="ranks-") as name:
        place = Path(name)
        (place / "request.json").write_text(json.dumps(to_json(request)), encoding="utf-8")
        run_ranks(_MODULE, (name,), request.training.gpus, on_line=forward)
        answers = _answers(place)
    for answer in answers:
        if not answer["ok"]:
            raise _error(answer["error"])
    for answer in answers:
        if answer["result"] is not None and len(answers) == request.training.gpus:
            return DraftTrainingResult.model_validate(answer["result"])
    raise ToolError(
        f"One of the {request.training.gpus} training processes ended without a word.",
        hint="The log may say why (often out of memory); build again to go on from the checkpoint.",
    )


def _answers(place: Path) -> list[dict[str, Any]]:
    """What the processes wrote, the first to end first: a failure makes the others fail after it."""
    files = sorted(place.glob("answer-*.json"), key=lambda file: file.stat().st_mtime_ns)
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _error(said: dict[str, Any]) -> BwdeployError:
    """The error that a process described, as an exception of this one."""
    if said["kind"] == "recipe":
        return RecipeError(tuple(Finding(**finding) for finding in said["findings"]))
    kinds: dict[str, type[BwdeployError]] = {"host": HostError, "store": StoreError}
    return kinds.get(said["kind"], ToolError)(said["message"], hint=said.get("hint", ""))
