"""Stage `repository`: the Triton model repository that serves the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bwdeploy_runtime
from bwdeploy.errors import ToolError
from bwdeploy.pipeline.stage import Step
from bwdeploy.recipe.schema import Engine, Serve
from bwdeploy.serving.repository import RepositoryInputs, write_repository
from bwdeploy.stages.checkpoint import checkpoint_stage
from bwdeploy.stages.engine import LLM_ARGS

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

_RUNTIME = Path(bwdeploy_runtime.__file__).parent
_NOT_SERVED = {"prompts"}
"""Of the section `serve`: what only the smoke test reads."""


class RepositoryStage:
    """Writes the repository."""

    name = "repository"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step:
        """See `Stage.plan_step`."""
        del host  # a repository is the same on every machine
        return Step(
            params={
                "checkpoint": checkpoint_stage(recipe),
                "serve": recipe.serve.model_dump(mode="json", exclude=_NOT_SERVED),
                "engine": recipe.engine.model_dump(mode="json", exclude={"llm_args"}),
                "trust_remote_code": recipe.model.trust_remote_code,
            },
            sources={"runtime": _RUNTIME},
            inputs=(checkpoint_stage(recipe), "engine"),
            tools=("protobuf", "tritonclient"),
            command=f"write the Triton model {recipe.serve.model_name} ({recipe.serve.runtime})",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params = work.step.params
        write_repository(
            work.out,
            RepositoryInputs(
                serve=Serve.model_validate(params["serve"]),
                engine=Engine.model_validate(params["engine"]),
                checkpoint=work.inputs[params["checkpoint"]],
                llm_args=work.inputs["engine"] / LLM_ARGS,
                trust_remote_code=params["trust_remote_code"],
            ),
        )

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        models = [path.parent for path in out.glob("*/config.pbtxt")]
        if len(models) != 1 or not (models[0] / "1" / "model.py").is_file():
            raise ToolError("the model repository is not complete", hint="Report this as a bug of bwdeploy")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`; a repository has no limits."""
