"""One section `speculative`, and what converter, build and server are told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.engines.directory import read_engine
from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import ProgramNeed, ToolResult, ToolRun
from bwdeploy.pipeline.stage import Stage, Step, Work
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.engine import EngineStage
from bwdeploy.stages.quantize import QuantizeStage
from bwdeploy.stages.repository import RepositoryStage
from tests.checks.model_configs import SMALL_LLAMA
from tests.engines.rank_checkpoints import write_rank_checkpoint
from tests.pipeline.toy import HOST
from tests.tools import stand_in_convert_checkpoint, stand_in_trtllm_build

_SCRIPTS = {"python3": stand_in_convert_checkpoint.__file__, "trtllm-build": stand_in_trtllm_build.__file__}


class Here:
    """Runs the stand-in of a program as a process, and keeps what it was asked to run."""

    device = None

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ran: list[ToolRun] = []

    def run(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("no job of the worker is needed")

    def require(self, need: ProgramNeed) -> None:
        pass

    def run_tool(self, tool: ToolRun, **_: Any) -> ToolResult:
        self.ran.append(tool)
        script = tool.program == "python3"
        words = tool.arguments[1:] if script else tool.arguments
        family = Path(tool.arguments[0]).parent.name if script else ""
        environment = os.environ | {
            "STAND_IN_FAMILY": family,
            "STAND_IN_CHECKPOINT": str(self.place / "rank_checkpoint"),
        }
        done = subprocess.run(
            [sys.executable, _SCRIPTS[tool.program], *words],
            cwd=self.place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return ToolResult(command=(tool.program, *words), executor="local", seconds=0.0)


def recipe(place: Path, method: str, draft_len: int, **sections: Any) -> Recipe:
    for name in ("model", "heads"):
        (place / name).mkdir(exist_ok=True)
        (place / name / "config.json").write_text(json.dumps(SMALL_LLAMA | {"dtype": "float16"}))
    engine = {"backend": "tensorrt", "converter": "tensorrt_llm", "max_batch_size": 8, "max_num_tokens": 64}
    return Recipe.model_validate(
        {
            "schema": 1,
            "name": "tiny",
            "model": {"source": f"file://{place}/model"},
            "quantize": {"method": "none"},
            "engine": engine | {"max_seq_len": 64},
            "speculative": {"method": method, "draft": f"file://{place}/heads", "draft_len": draft_len},
            **sections,
        }
    )


def planned(stage: Stage, wanted: Recipe) -> Step:
    step = stage.plan_step(wanted, HOST)
    assert step is not None
    return step


def work(step: Step, here: Here, **inputs: Path) -> Work:
    out, scratch = here.place / f"out-{len(here.ran)}", here.place / f"scratch-{len(here.ran)}"
    out.mkdir()
    scratch.mkdir()
    return Work(
        step=step, inputs=inputs, out=out, scratch=scratch, state=scratch, executor=here,
        log=here.place / "log",
        on_progress=lambda _: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "draft_len", "depth"), [("eagle", 5, "num_eagle_layers"), ("medusa", 3, "num_medusa_heads")]
)
def test_heads_reach_checkpoint_engine_and_server(
    method: str, draft_len: int, depth: str, tmp_path: Path
) -> None:
    write_rank_checkpoint(tmp_path / "rank_checkpoint")
    wanted, here = recipe(tmp_path, method, draft_len), Here(tmp_path)
    converting = work(planned(QuantizeStage(), wanted), here, source=tmp_path / "model")
    QuantizeStage().run(converting)
    QuantizeStage().verify(converting.out)
    assert here.ran[0].reads == (tmp_path / "model", tmp_path / "heads")
    assert f"--{method}_model_dir {tmp_path / 'heads'}" in " ".join(here.ran[0].arguments)
    assert json.loads((converting.out / "config.json").read_text())[depth] == draft_len

    building = work(planned(EngineStage(), wanted), here, quantize=converting.out)
    EngineStage().run(building)
    engine = read_engine(building.out / "engine")
    assert (engine.speculative_mode, engine.max_draft_len) == (method, draft_len)

    served = planned(RepositoryStage(), wanted).params
    chain = [[0] * length for length in range(1, draft_len + 1)]
    assert served["serve"]["engine_parameters"] == {f"{method}_choices": chain}
    assert served["engine"]["build_flags"]["speculative_decoding_mode"] == method


def test_an_engine_for_other_drafts_is_not_published(tmp_path: Path) -> None:
    write_rank_checkpoint(tmp_path / "rank_checkpoint")
    here = Here(tmp_path)
    converting = work(planned(QuantizeStage(), recipe(tmp_path, "eagle", 5)), here, source=tmp_path / "model")
    QuantizeStage().run(converting)
    step = planned(EngineStage(), recipe(tmp_path, "eagle", 5))
    building = work(step, here, quantize=converting.out)
    here.run_tool = lambda tool, **rest: Here.run_tool(  # type: ignore[method-assign]
        here,
        tool.model_copy(update={"arguments": _without(tool.arguments, "--speculative_decoding_mode")}),
        **rest,
    )
    with pytest.raises(ToolError, match="speculative_decoding_mode is none, not eagle"):
        EngineStage().run(building)
    assert step.params["engine"]["build_flags"] == {"speculative_decoding_mode": "eagle", "max_draft_len": 5}


def _without(words: tuple[str, ...], option: str) -> tuple[str, ...]:
    at = words.index(option)
    return (*words[:at], *words[at + 2 :])


def test_the_content_of_the_heads_counts_and_their_path_does_not(tmp_path: Path) -> None:
    step = planned(QuantizeStage(), recipe(tmp_path, "eagle", 5))
    assert step.sources == {"draft": tmp_path / "heads"}
    assert str(tmp_path) not in step.command + json.dumps(step.params)
    assert "--eagle_model_dir DRAFT" in step.command
