"""The artifacts of a finished build, read into the data of its report.

A file that another version of bwdeploy wrote and this one cannot read is named in the report, and its part
left out: a report is made of what there is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from bwdeploy.build import needs_of
from bwdeploy.errors import HostError, RecipeError
from bwdeploy.estimate.figures import EstimateRequest
from bwdeploy.estimate.recipe import estimate_recipe
from bwdeploy.model.describe import describe_model
from bwdeploy.pipeline.jobs import AuditReport, JobData
from bwdeploy.pipeline.training_jobs import AccuracyReport, DraftAcceptance, TrainedResult
from bwdeploy.report.html.data import ReportData, StageRecord
from bwdeploy.report.html.kernel_pack import read_pack
from bwdeploy.stages import acceptance, draft, gate, quantize
from bwdeploy.stages.gate_verdicts import verdicts_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bwdeploy.estimate.figures import Estimate
    from bwdeploy.planner.speed.draft_choice import DraftChoice
    from bwdeploy.recipe.schema import Recipe
    from bwdeploy.report.html.data import KernelPack

DataT = TypeVar("DataT", bound=JobData)


def read_build(
    manifest: Mapping[str, Any], made: Mapping[str, Path], recipe: Recipe, *, refusals: tuple[str, ...] = ()
) -> ReportData:
    """Everything that is known of a build.

    Args:
        manifest: Its `bwdeploy.json`.
        made: Stage name → directory of its artifact, of the stages that are still there.
        recipe: What was built.
        refusals: Why it was stopped, if it was.
    """
    files = _Files(made)
    accuracy = files.read("gate", gate.ACCURACY, AccuracyReport)
    drafted = files.read("draft", draft.REPORT, draft.DraftReport)
    measured = files.read("acceptance", acceptance.MEASUREMENT, DraftAcceptance)
    return ReportData(
        name=manifest["name"],
        version=manifest["bwdeploy"],
        recipe=recipe,
        recipe_text=manifest["recipe_text"],
        host=manifest["host"],
        stages=tuple(_stage(entry) for entry in manifest["stages"]),
        needs=needs_of(recipe, made),
        quantized=files.read("quantize", quantize.RESULT, TrainedResult)
        if recipe.quantize.quantizes
        else None,
        audit=files.read("gate", gate.REPORT, AuditReport),
        accuracy=accuracy,
        judged=verdicts_of(accuracy, recipe.gate) if accuracy else (),
        draft_audit=drafted.audit if drafted else None,
        draft_training=drafted.training if drafted else None,
        acceptance=measured,
        choice=_choice(measured),
        kernels=_pack(files, made),
        estimate=_estimate(recipe, made),
        refusals=refusals,
        problems=tuple(files.problems),
    )


class _Files:
    """The JSON files of artifacts, and which of them could not be read."""

    def __init__(self, made: Mapping[str, Path]) -> None:
        self._made = made
        self.problems: list[str] = []

    def read(self, stage: str, name: str, data_type: type[DataT]) -> DataT | None:
        """A file as data; None when the build has none."""
        file = self._made[stage] / name if stage in self._made else None
        if file is None or not file.is_file():
            return None
        try:
            return data_type.model_validate_json(self._without_places(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # pydantic's own is one of these
            self.unreadable(f"{stage}/{name}")
            return None

    def _without_places(self, text: str) -> str:
        """Of a path in the store, the stage and what lies below it: the rest is this machine's."""
        for stage, directory in self._made.items():
            text = text.replace(json.dumps(str(directory))[1:-1], f"…/{stage}")
        return text

    def unreadable(self, place: str) -> None:
        """Note that a file is of no use here."""
        self.problems.append(
            f"{place} is damaged or of another version of bwdeploy: what it says is left out of this report."
        )


def _stage(entry: Mapping[str, Any]) -> StageRecord:
    return StageRecord(
        name=entry["name"],
        key=entry["key"],
        seconds=entry["seconds_to_make"],
        size_bytes=sum(file["size_bytes"] for file in entry["files"]),
        tools=entry["tools"],
        sources=entry["sources"],
    )


def _choice(measured: DraftAcceptance | None) -> DraftChoice | None:
    if measured is None or not measured.timings:
        return None
    try:
        return acceptance.choice_of(measured)
    except ValueError:  # its times allow no choice; the measurement itself is shown
        return None


def _pack(files: _Files, made: Mapping[str, Path]) -> KernelPack | None:
    if "kernels" not in made:
        return None
    try:
        return read_pack(made["kernels"])
    except (OSError, ValueError, KeyError, TypeError):
        files.unreadable("the manifest of the kernel pack")
        return None


def _estimate(recipe: Recipe, made: Mapping[str, Path]) -> Estimate | None:
    """By the roofline, which needs nothing but the recipe and its model; None where it cannot know."""
    if recipe.layout.gpu is None:
        return None
    if describe_model(recipe).shape is None and "source" in made:
        local = recipe.model.model_copy(update={"source": f"file://{made['source']}"})
        recipe = recipe.model_copy(update={"model": local})
    try:
        return estimate_recipe(recipe, EstimateRequest(method="roofline"))
    except (RecipeError, HostError):
        return None
