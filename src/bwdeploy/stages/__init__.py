"""The program: a build runs these stages in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.stages.engine import EngineStage
from bwdeploy.stages.gate import GateStage
from bwdeploy.stages.quantize import QuantizeStage
from bwdeploy.stages.repository import RepositoryStage
from bwdeploy.stages.source import SourceStage

if TYPE_CHECKING:
    from bwdeploy.pipeline.stage import Stage

STAGES: tuple[Stage, ...] = (
    SourceStage(),
    QuantizeStage(),
    GateStage(),
    EngineStage(),
    RepositoryStage(),
)

PLACED_IN_OUTPUT = {"repository": "model_repository", "gate": "report"}
"""Which artifacts an output directory shows, and where."""
