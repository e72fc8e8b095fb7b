"""The files of stage `repository`: each way to serve a build has a writer, called when the stage runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.pipeline.jobs import JoinRanks
from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.serving.engine_repository import EngineRepositoryInputs, write_engine_repository
from bwdeploy.serving.launch_line import LAUNCH, launch_words, write_launch_script
from bwdeploy.serving.repository import RepositoryInputs, write_repository
from bwdeploy.serving.trtllm_serve import TrtllmServeInputs, write_trtllm_serve
from bwdeploy.stages.draft import FILES
from bwdeploy.stages.engine import ENGINE, LLM_ARGS, drafts
from bwdeploy.stages.engine_build import logits_dtype
from bwdeploy.tools.triton_ranks import EngineLaunch

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.stage import Work


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
            draft=_draft(work),
            trust_remote_code=params["trust_remote_code"],
            kernels=work.inputs.get("kernels"),
            kernel_ops=tuple(params.get("kernels", ())),
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
            kernels=work.inputs.get("kernels"),
        ),
    )
    launch = EngineLaunch(
        version=engine.tensorrt_llm,
        world_size=layout.tp * layout.pp,
        mode=serve.launch_mode,
        plugins="kernels" in work.inputs,
        variables=tuple(sorted(engine.environment.items())),
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
            draft=_draft(work),
            trust_remote_code=params["trust_remote_code"],
            kernels=work.inputs.get("kernels"),
        ),
    )


def _draft(work: Work) -> Path | None:
    """The draft's files, where the engine's arguments draft."""
    used = "draft" in work.inputs and drafts(work.inputs["engine"])
    return work.inputs["draft"] / FILES if used else None


WRITERS = {
    "llm": _write_llm,
    "joined": _write_joined,
    "engine": _write_engine,
    "trtllm-serve": _write_trtllm_serve,
}
"""What serves the build → who writes it."""
