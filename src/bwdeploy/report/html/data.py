"""What a report is made from: plain values, read from the finished artifacts of one build.

Whatever a build did not make is None or empty, and its section is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.build import Needs
    from bwdeploy.estimate.figures import Estimate
    from bwdeploy.kernels.measured import Figure
    from bwdeploy.kernels.resources import KernelResources
    from bwdeploy.pipeline.jobs import AuditReport, QuantizeResult
    from bwdeploy.pipeline.training_jobs import (
        AccuracyReport,
        DraftAcceptance,
        DraftAudit,
        DraftTrainingResult,
    )
    from bwdeploy.planner.speed.draft_choice import DraftChoice
    from bwdeploy.recipe.schema import Recipe
    from bwdeploy.stages.gate_verdicts import JudgedFigure


class StageRecord(NamedTuple):
    """One stage of the build, as the manifest of the output has it."""

    name: str
    key: str
    seconds: float
    """It took to make; it may have been made by an earlier build."""
    size_bytes: int
    tools: Mapping[str, str]
    """Distribution → version."""
    sources: Mapping[str, str]
    """File → SHA-256."""


class KernelTable(NamedTuple):
    """One op of the build's pack on one architecture."""

    op: str
    summary: str
    sm: str
    status: str
    """`compiled` or `measured`."""
    figures: tuple[Figure, ...]
    resources: tuple[KernelResources, ...]


class KernelPack(NamedTuple):
    """The build's kernel pack."""

    nvcc: str
    torch_stable: str
    minimum_driver: str
    tables: tuple[KernelTable, ...]


class ReportData(NamedTuple):
    """All of it."""

    name: str
    version: str
    """Of the bwdeploy that built."""
    recipe: Recipe
    recipe_text: str
    host: Mapping[str, Any]
    stages: tuple[StageRecord, ...]
    needs: Needs | None = None
    quantized: QuantizeResult | None = None
    """A TrainedResult after training or search."""
    audit: AuditReport | None = None
    accuracy: AccuracyReport | None = None
    judged: tuple[JudgedFigure, ...] = ()
    draft_audit: DraftAudit | None = None
    draft_training: DraftTrainingResult | None = None
    acceptance: DraftAcceptance | None = None
    choice: DraftChoice | None = None
    """What the measured draft is predicted to bring."""
    kernels: KernelPack | None = None
    estimate: Estimate | None = None
    refusals: tuple[str, ...] = ()
    """Why the build was stopped, by the stages that stopped it; empty for a finished one."""
    problems: tuple[str, ...] = ()
    """What could not be read, for people."""
