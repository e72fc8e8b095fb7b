"""What stage `kernels` says of a pack before it is compiled, and what it does not let pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.kernels.ops import shipped_ops
from bwdeploy.pipeline.host import Host, probe_host
from bwdeploy.pipeline.stage import Step
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages import STAGES
from bwdeploy.stages.kernel_pack import target_sms
from bwdeploy.stages.kernels import KernelsStage
from tests.kernel_pack.packs import NORM_FP8, SILU_FP8, write_pack


@pytest.fixture(scope="module")
def host() -> Host:
    return probe_host(device="cpu")


def recipe(*kernels: str, **sections: Any) -> Recipe:
    return Recipe.model_validate(
        {"schema": 1, "name": "x", "model": {"source": "file:///m"}, "kernels": kernels, **sections}
    )


def planned(host: Host, *kernels: str, **sections: Any) -> Step:
    step = KernelsStage().plan_step(recipe(*kernels, **sections), host)
    assert step is not None
    return step


def test_a_recipe_without_kernels_has_no_pack(host: Host) -> None:
    assert KernelsStage().plan_step(recipe(), host) is None


def test_other_kernels_give_another_pack_and_leave_the_checkpoint_as_it_is(host: Host) -> None:
    one, both = recipe(NORM_FP8), recipe(NORM_FP8, SILU_FP8)
    stages = [stage for stage in STAGES if stage.name != "source"]  # reads the model
    differing = {stage.name for stage in stages if stage.plan_step(one, host) != stage.plan_step(both, host)}
    assert differing == {"kernels", "repository"}


def test_the_gpu_of_the_layout_decides_what_is_compiled_and_without_one_all_is() -> None:
    assert target_sms(recipe(NORM_FP8, layout={"gpu": "H200"})) == ("sm_90a",)
    assert target_sms(recipe(NORM_FP8, layout={"gpu": "GB300"})) == ("sm_103a",)
    assert target_sms(recipe(NORM_FP8, SILU_FP8)) == shipped_ops()[NORM_FP8].sms


@pytest.mark.parametrize(
    ("variable", "value"),
    [("NVCC_APPEND_FLAGS", "-G"), ("NVCC_CCBIN", "/nowhere/g++"), ("CUDA_HOME", "/nowhere")],
)
def test_another_compiler_gives_another_pack(
    host: Host, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setattr("bwdeploy.tools.nvcc._answer", lambda _: "V13.0.88")
    monkeypatch.setattr(
        "shutil.which", lambda program: None if "nowhere" in str(program) else f"/bin/{program}"
    )
    for name in ("CUDA_HOME", "NVCC_CCBIN", "NVCC_APPEND_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    before = planned(host, NORM_FP8).params
    assert "nvcc 13.0.88" in before["compiler"]
    monkeypatch.setenv(variable, value)
    assert planned(host, NORM_FP8).params != before


def test_another_processor_gives_another_pack(host: Host) -> None:
    assert planned(replace(host, machine="another"), NORM_FP8).params != planned(host, NORM_FP8).params


def test_what_is_compiled_and_what_is_copied_is_read(host: Host) -> None:
    assert set(planned(host, NORM_FP8).sources) == {"package", "common", "measured.json", NORM_FP8}
    engine = planned(host, NORM_FP8, engine={"backend": "tensorrt"})
    assert {"tensorrt", SILU_FP8} <= set(engine.sources)
    assert "tensorrt" in engine.params


def test_a_pack_without_one_of_its_libraries_is_not_published(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", (NORM_FP8,))
    library = next((pack / "lib").iterdir())
    KernelsStage().verify(pack)
    library.unlink()
    with pytest.raises(ToolError, match=f"the pack lacks lib/{library.name}"):
        KernelsStage().verify(pack)
    (pack / "manifest.json").unlink()
    with pytest.raises(ToolError, match="the pack is not whole"):
        KernelsStage().verify(pack)
