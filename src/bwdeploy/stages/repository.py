"""Stage `repository`: what serves the build, as files.

A Triton model repository: our own model on the LLM API or on the reference runtime, or the five models around
an engine. For versions that no Triton image carries, the configuration of trtllm-serve.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bwdeploy_engine_models
import bwdeploy_runtime
from bwdeploy.engines.drafts import engine_with_drafts, serve_with_drafts
from bwdeploy.errors import ToolError
from bwdeploy.facts.triton_templates import engine_models
from bwdeploy.pipeline.stage import Step
from bwdeploy.stages.checkpoint import checkpoint_layout, checkpoint_stage
from bwdeploy.stages.draft import makes_draft

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

_RUNTIME = Path(bwdeploy_runtime.__file__).parent
_ENGINE_MODELS = Path(bwdeploy_engine_models.__file__).parent
_TRTLLM_SERVE = "config.yaml"
"""The one file that every output for trtllm-serve has."""
_NOT_SERVED = {"prompts"}
"""Of the section `serve`: what only the smoke test reads."""


class RepositoryStage:
    """Writes what serves the build."""

    name = "repository"
    version = 2

    def plan_step(self, recipe: Recipe, host: Host) -> Step:
        """See `Stage.plan_step`."""
        del host  # a repository is the same on every machine
        params = {
            "checkpoint": checkpoint_stage(recipe),
            "serve": serve_with_drafts(recipe).model_dump(mode="json", exclude=_NOT_SERVED),
            "engine": engine_with_drafts(recipe).model_dump(mode="json", exclude={"llm_args"}),
            "trust_remote_code": recipe.model.trust_remote_code,
        }
        if recipe.kernels:
            params["kernels"] = list(recipe.kernels)
        if recipe.builds_engine:
            return _engine_step(recipe, params)
        if recipe.serve.server == "trtllm-serve":
            return _trtllm_serve_step(recipe, params)
        from_ranks = checkpoint_layout(recipe) == "tensorrt_llm"
        return Step(
            params=params | {"writes": "joined" if from_ranks else "llm"},
            sources={"runtime": _RUNTIME},
            inputs=(
                checkpoint_stage(recipe),
                "source" if from_ranks else "engine",
                *_draft(recipe),
                *_kernels(recipe),
            ),
            tools=("protobuf", "tritonclient"),
            command=f"write the Triton model {recipe.serve.model_name} ({recipe.serve.runtime})",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        from bwdeploy.stages.repository_files import WRITERS  # noqa: PLC0415 - a tenth of the time of a plan

        WRITERS[work.step.params["writes"]](work)

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        configs = {path.parent.name for path in out.glob("*/config.pbtxt")}
        whole = (
            (out / _TRTLLM_SERVE).is_file()
            or configs == set(engine_models())
            or (len(configs) == 1 and any(out.glob("*/1/model.py")))
        )
        if not whole:
            raise ToolError("the model repository is not complete", hint="Report this as a bug of bwdeploy")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`; a repository has no limits."""


def _engine_step(recipe: Recipe, params: dict[str, Any]) -> Step:
    return Step(
        params=params | {"writes": "engine", "layout": _layout(recipe), "name": recipe.name},
        sources={"models": _ENGINE_MODELS},
        inputs=("quantize", "source", "engine", *_kernels(recipe)),
        tools=("protobuf", "tritonclient"),
        command=f"write the Triton models around the engine: {', '.join(engine_models())}",
    )


def _trtllm_serve_step(recipe: Recipe, params: dict[str, Any]) -> Step:
    return Step(
        params=params | {"writes": "trtllm-serve", "layout": _layout(recipe)},
        inputs=(checkpoint_stage(recipe), "engine", *_draft(recipe), *_kernels(recipe)),
        command=f"write the configuration of trtllm-serve {recipe.engine.tensorrt_llm}",
    )


def _draft(recipe: Recipe) -> tuple[str, ...]:
    return ("draft",) if makes_draft(recipe) else ()


def _kernels(recipe: Recipe) -> tuple[str, ...]:
    return ("kernels",) if recipe.kernels else ()


def _layout(recipe: Recipe) -> dict[str, Any]:
    return recipe.layout.model_dump(mode="json", exclude={"auto"})
