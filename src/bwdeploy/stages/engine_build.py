"""The backend tensorrt of stage `engine`: trtllm-build, and a look at what it made.

The command line is planned from the recipe alone, so that `plan` shows it; the executor runs it where
TensorRT-LLM is. What comes out must be a whole engine of the pinned version, with the sizes, ranks and
plugins that the recipe says and the quantization of the checkpoint, or it is not published.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.engines.checkpoint import read_rank_checkpoint
from bwdeploy.engines.command import PROGRAM, EngineRequest, build_command, default_workers, flag_paths
from bwdeploy.engines.directory import (
    EngineError,
    ExpectedEngine,
    directory_problems,
    engine_problems,
    read_engine,
)
from bwdeploy.engines.drafts import engine_with_drafts
from bwdeploy.errors import HostError, ToolError
from bwdeploy.pipeline.jobs import ProgramNeed, ToolRun
from bwdeploy.pipeline.stage import Step
from bwdeploy.recipe.schema import Engine, Layout
from bwdeploy.stages.engine import ENGINE
from bwdeploy_kernels.tensorrt_plugins import LIBRARY, VARIABLE

if TYPE_CHECKING:
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

RESULT = "build.json"
_NOT_BUILT_IN = {"backend", "converter", "llm_args", "environment"}
"""Of the section `engine`: what trtllm-build does not see."""


def engine_step(recipe: Recipe) -> Step:
    """The build of the engine that `recipe` means; it depends on the GPU that it is built for.

    Raises:
        HostError: a file that an option names is not on this machine.
    """
    engine, layout = engine_with_drafts(recipe), recipe.layout
    reads = flag_paths(engine.build_flags).reads
    for path in reads:
        if not path.exists():
            raise HostError(
                f"engine.build_flags: {path} does not exist", hint="Check the path, or remove the option"
            )
    arguments = _arguments(engine, layout, checkpoint=Path("CHECKPOINT"), out=Path("OUT"))
    pack = (f"{VARIABLE}=KERNELS",) if recipe.kernels else ()
    return Step(
        params={
            "engine": engine.model_dump(mode="json", exclude=_NOT_BUILT_IN),
            "layout": layout.model_dump(mode="json", exclude={"attention_dp", "auto", "ep"}),
        },
        sources={f"flags/{number}": path for number, path in enumerate(reads)},
        inputs=("quantize", *(("kernels",) if recipe.kernels else ())),
        program=_need(engine, layout),
        command=shlex.join((*pack, PROGRAM, *arguments)),
    )


def run_build(work: Work) -> None:
    """Build the engine into `work.out`.

    Raises:
        HostError: the kernel pack was compiled without TensorRT.
        ToolError: trtllm-build failed, or what it made is not what the recipe says.
    """
    engine = Engine.model_validate(work.step.params["engine"])
    layout = Layout.model_validate(work.step.params["layout"])
    checkpoint, out = work.inputs["quantize"], work.out / ENGINE
    pack = work.inputs.get("kernels")
    if pack is not None:
        _require_plugins(pack)
    out.mkdir(exist_ok=True)  # a job that outlived an earlier process writes into it already
    paths = flag_paths(engine.build_flags)
    for directory in paths.writes:
        directory.mkdir(parents=True, exist_ok=True)
    result = work.run_tool(
        ToolRun(
            **_need(engine, layout).model_dump(),
            arguments=_arguments(engine, layout, checkpoint=checkpoint, out=out),
            reads=(checkpoint, *paths.reads, *((pack,) if pack else ())),
            writes=(out, *paths.writes),
            environment={VARIABLE: str(pack)} if pack else {},
        )
    )
    _refuse_misfit(out, checkpoint, engine, layout)
    (work.out / RESULT).write_text(result.model_dump_json(indent=1))


def verify_engine(out: Path) -> None:
    """Look at an engine once more before it is published.

    Raises:
        ToolError: a rank or config.json is missing, or the version is not known.
    """
    try:
        problems = directory_problems(read_engine(out / ENGINE))
    except EngineError as error:
        raise ToolError(error.message, hint=error.hint) from error
    _refuse(problems)


def logits_dtype(checkpoint: Path, engine: Engine) -> str:
    """Of the engine that is built from `checkpoint`: an option, else what the checkpoint says."""
    return str(engine.build_flags.get("logits_dtype") or read_rank_checkpoint(checkpoint).logits_dtype)


def _require_plugins(pack: Path) -> None:
    """Refuse a pack that has nothing for TensorRT before hours of building.

    Raises:
        HostError: the plugin library is not in it.
    """
    if not (pack / LIBRARY).is_file():
        raise HostError(
            f"The kernel pack has no {LIBRARY}, so no engine can call its kernels.",
            hint="Compile the pack where TensorRT's headers are and TENSORRT_ROOT names their directory, "
            "or remove `kernels` from the recipe",
        )


def _need(engine: Engine, layout: Layout) -> ProgramNeed:
    return ProgramNeed(
        program=PROGRAM,
        tensorrt_llm=engine.tensorrt_llm,
        gpus=layout.gpus_per_node,
        nodes=layout.nodes,
        tasks=layout.tp * layout.pp if layout.nodes > 1 else 1,
    )


def _refuse_misfit(out: Path, checkpoint: Path, engine: Engine, layout: Layout) -> None:
    try:
        made_from, found = read_rank_checkpoint(checkpoint), read_engine(out)
    except EngineError as error:
        raise ToolError(error.message, hint=error.hint) from error
    expected = ExpectedEngine(
        tensorrt_llm=engine.tensorrt_llm,
        max_batch_size=engine.max_batch_size,
        max_num_tokens=engine.max_num_tokens,
        max_seq_len=engine.max_seq_len,
        tp=layout.tp,
        pp=layout.pp,
        quant_algo=made_from.quant_algo,
        kv_cache_quant_algo=made_from.kv_cache_quant_algo,
        build_flags=engine.build_flags,
    )
    _refuse(engine_problems(found, expected))


def _refuse(problems: tuple[str, ...]) -> None:
    if problems:
        raise ToolError(
            "trtllm-build ended without an error, but the engine is not what the recipe asks for:\n"
            + "\n".join(f"  - {problem}" for problem in problems),
            hint="The log of the engine stage says what it changed; the checkpoint is kept",
        )


def _arguments(engine: Engine, layout: Layout, *, checkpoint: Path, out: Path) -> tuple[str, ...]:
    return build_command(
        EngineRequest(
            checkpoint=checkpoint,
            out=out,
            max_batch_size=engine.max_batch_size,
            max_num_tokens=engine.max_num_tokens,
            max_seq_len=engine.max_seq_len,
            workers=default_workers(tp=layout.tp, pp=layout.pp, gpus_per_node=layout.gpus_per_node),
            build_flags=engine.build_flags,
        )
    )
