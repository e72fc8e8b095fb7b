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
from bwdeploy.pipeline.jobs import JoinRanks
from bwdeploy.pipeline.stage import Step
from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.serving.engine_repository import EngineRepositoryInputs, write_engine_repository
from bwdeploy.serving.launch_line import launch_words, write_launch_script
from bwdeploy.serving.repository import RepositoryInputs, write_repository
from bwdeploy.serving.trtllm_serve import CONFIG, LAUNCH, TrtllmServeInputs, write_trtllm_serve
from bwdeploy.stages.checkpoint import checkpoint_layout, checkpoint_stage
from bwdeploy.stages.engine import LLM_ARGS
from bwdeploy.stages.engine_build import ENGINE, builds_engine, logits_dtype
from bwdeploy.tools.triton_ranks import EngineLaunch

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

_RUNTIME = Path(bwdeploy_runtime.__file__).parent
_ENGINE_MODELS = Path(bwdeploy_engine_models.__file__).parent
_NOT_SERVED = {"prompts"}
"""Of the section `serve`: what only the smoke test reads."""


class RepositoryStage:
    """Writes what serves the build."""

    name = "repository"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step:
        """See `Stage.plan_step`."""
        del host  # a repository is the same on every machine
        params = {
            "checkpoint": checkpoint_stage(recipe),
            "serve": serve_with_drafts(recipe).model_dump(mode="json", exclude=_NOT_SERVED),
            "engine": engine_with_drafts(recipe).model_dump(mode="json", exclude={"llm_args"}),
            "trust_remote_code": recipe.model.trust_remote_code,
        }
        if builds_engine(recipe):
            return _engine_step(recipe, params)
        if recipe.serve.server == "trtllm-serve":
            return _trtllm_serve_step(recipe, params)
        from_ranks = checkpoint_layout(recipe) == "tensorrt_llm"
        return Step(
            params=params | {"writes": "joined" if from_ranks else "llm"},
            sources={"runtime": _RUNTIME},
            inputs=(checkpoint_stage(recipe), "source" if from_ranks else "engine"),
            tools=("protobuf", "tritonclient"),
            command=f"write the Triton model {recipe.serve.model_name} ({recipe.serve.runtime})",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        _WRITES[work.step.params["writes"]](work)

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        configs = {path.parent.name for path in out.glob("*/config.pbtxt")}
        whole = (
            (out / CONFIG).is_file()
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
        inputs=("quantize", "source", "engine"),
        tools=("protobuf", "tritonclient"),
        command=f"write the Triton models around the engine: {', '.join(engine_models())}",
    )


def _trtllm_serve_step(recipe: Recipe, params: dict[str, Any]) -> Step:
    return Step(
        params=params | {"writes": "trtllm-serve", "layout": _layout(recipe)},
        inputs=(checkpoint_stage(recipe), "engine"),
        command=f"write the configuration of trtllm-serve {recipe.engine.tensorrt_llm}",
    )


def _layout(recipe: Recipe) -> dict[str, Any]:
    return recipe.layout.model_dump(mode="json", exclude={"auto"})


def _write_llm(work: Work) -> None:
    params = work.step.params
    _write_model(work, work.inputs[params["checkpoint"]], llm_args=work.inputs["engine"] / LLM_ARGS)


def _write_joined(work: Work) -> None:
    """The reference runtime on the checkpoint of an engine: its ranks are put together again."""
    joined = work.scratch / "joined"
    joined.mkdir(exist_ok=True)
    work.run(JoinRanks(checkpoint=work.inputs["quantize"], source=work.inputs["source"], out=joined))
    _write_model(work, joined, llm_args=None)


def _write_model(work: Work, checkpoint: Path, *, llm_args: Path | None) -> None:
    params = work.step.params
    write_repository(
        work.out,
        RepositoryInputs(
            serve=Serve.model_validate(params["serve"]),
            engine=Engine.model_validate(params["engine"]),
            checkpoint=checkpoint,
            llm_args=llm_args,
            trust_remote_code=params["trust_remote_code"],
        ),
    )


def _write_engine(work: Work) -> None:
    params, engines = work.step.params, work.inputs["engine"] / ENGINE
    engine, layout = Engine.model_validate(params["engine"]), Layout.model_validate(params["layout"])
    serve = Serve.model_validate(params["serve"])
    write_engine_repository(
        work.out,
        EngineRepositoryInputs(
            serve=serve,
            engine=engine,
            layout=layout,
            tokenizer=work.inputs["source"],
            engines=engines,
            logits_dtype=logits_dtype(work.inputs["quantize"], engine),
        ),
    )
    launch = EngineLaunch(
        version=engine.tensorrt_llm, world_size=layout.tp * layout.pp, mode=serve.launch_mode
    )
    words = launch_words(params["name"], repository=".", engine=launch, layout=layout)
    write_launch_script(work.out / LAUNCH, words)


def _write_trtllm_serve(work: Work) -> None:
    params = work.step.params
    write_trtllm_serve(
        work.out,
        TrtllmServeInputs(
            serve=Serve.model_validate(params["serve"]),
            engine=Engine.model_validate(params["engine"]),
            layout=Layout.model_validate(params["layout"]),
            checkpoint=work.inputs[params["checkpoint"]],
            llm_args=work.inputs["engine"] / LLM_ARGS,
            trust_remote_code=params["trust_remote_code"],
        ),
    )


_WRITES = {
    "llm": _write_llm,
    "joined": _write_joined,
    "engine": _write_engine,
    "trtllm-serve": _write_trtllm_serve,
}
"""What serves the build → who writes it."""
