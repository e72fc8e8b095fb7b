"""What trtllm-build is given when the recipe names kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.pipeline.jobs import ToolRun
from bwdeploy.pipeline.stage import Work
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.engine_build import engine_step, run_build

KERNEL = "add_rmsnorm_quant_fp8"


def recipe(*kernels: str) -> Recipe:
    return Recipe.model_validate(
        {
            "schema": 1,
            "name": "x",
            "model": {"source": "file:///m"},
            "engine": {"backend": "tensorrt"},
            "kernels": kernels,
        }
    )


class Recorder:
    """An executor whose trtllm-build fails after it told what it was given."""

    def __init__(self) -> None:
        self.tools: list[ToolRun] = []

    def run_tool(self, tool: ToolRun, **_: Any) -> Any:
        self.tools.append(tool)
        raise ToolError("enough is known", hint="")


def work(place: Path, executor: Any, *kernels: str) -> Work:
    inputs = {name: place / name for name in ("quantize", *(("kernels",) if kernels else ()))}
    for directory in (*inputs.values(), place / "out"):
        directory.mkdir()
    return Work(
        step=engine_step(recipe(*kernels)),
        inputs=inputs,
        out=place / "out",
        executor=executor,
        log=place / "log",
        scratch=place,
        state=place,
        on_progress=print,
    )


def test_the_pack_is_named_to_trtllm_build_and_may_be_read(tmp_path: Path) -> None:
    recorder = Recorder()
    running = work(tmp_path, recorder, KERNEL)
    library = tmp_path / "kernels" / "tensorrt" / "libbwdeploy_tensorrt_plugins.so"
    library.parent.mkdir()
    library.touch()
    with pytest.raises(ToolError, match="enough is known"):
        run_build(running)
    [tool] = recorder.tools
    assert tool.environment == {"BWDEPLOY_KERNEL_PACK": str(tmp_path / "kernels")}
    assert tmp_path / "kernels" in tool.reads


def test_a_pack_without_tensorrt_plugins_is_refused_before_anything_runs(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(HostError, match="no engine can call its kernels") as caught:
        run_build(work(tmp_path, recorder, KERNEL))
    assert "TENSORRT_ROOT" in caught.value.hint
    assert not recorder.tools


def test_without_kernels_nothing_is_added(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(ToolError):
        run_build(work(tmp_path, recorder))
    assert recorder.tools[0].environment == {}


def test_kernels_are_an_input_of_the_engine_and_shown_in_its_command() -> None:
    with_kernels, without = engine_step(recipe(KERNEL)), engine_step(recipe())
    assert (without.inputs, with_kernels.inputs) == (("quantize",), ("quantize", "kernels"))
    assert with_kernels.command == f"BWDEPLOY_KERNEL_PACK=KERNELS {without.command}"
