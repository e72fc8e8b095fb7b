"""The program: a build runs these stages in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.stages.acceptance import AcceptanceStage
from bwdeploy.stages.answers import AnswersStage
from bwdeploy.stages.draft import DraftStage
from bwdeploy.stages.engine import EngineStage
from bwdeploy.stages.gate import GateStage
from bwdeploy.stages.kernels import KernelsStage
from bwdeploy.stages.quantize import QuantizeStage
from bwdeploy.stages.repository import RepositoryStage
from bwdeploy.stages.source import ReferenceStage, SourceStage

if TYPE_CHECKING:
    from bwdeploy.pipeline.stage import Stage
    from bwdeploy.recipe.schema import Recipe

STAGES: tuple[Stage, ...] = (
    SourceStage(),
    QuantizeStage(),
    ReferenceStage(),
    GateStage(),
    AnswersStage(),
    DraftStage(),
    AcceptanceStage(),
    KernelsStage(),
    EngineStage(),
    RepositoryStage(),
)


def placed_in_output(recipe: Recipe) -> dict[str, str]:
    """Which artifacts the output directory of `recipe` shows, and where: stage → directory."""
    served_by_triton = recipe.serve.server == "triton"
    return {
        "repository": "model_repository" if served_by_triton else "trtllm_serve",
        "gate": "report",
        "acceptance": "report",
    }
