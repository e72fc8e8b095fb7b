"""Outputs with an engine, and those for trtllm-serve: what is understood and refused, and serving one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import BwdeployError, HostError, StoreError
from bwdeploy.serving.ask import ask
from bwdeploy.serving.client import Sampling
from bwdeploy.serving.deployment import open_deployment
from bwdeploy.serving.serve import ServeOptions, serving
from bwdeploy.serving.smoke import smoke_options
from bwdeploy.serving.vocabulary import ensemble_vocabulary
from tests.serving.conftest import TEXT, add_ensemble
from tests.tools.test_triton_ranks import RANK
from tests.tools.triton_on_path import put_programs

ENGINE = """\
name: "tensorrt_llm"
backend: "python"
input [ { name: "text_input" data_type: TYPE_STRING dims: [ -1 ] } ]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
model_transaction_policy { decoupled: true }
"""
"""The stand-in for the backend step: a Python model that knows its rank."""


def engine_config(*, tp: int = 2, version: str = "1.2.1") -> dict[str, Any]:
    return {
        "version": version,
        "pretrained_config": {
            "architecture": "LlamaForCausalLM",
            "dtype": "bfloat16",
            "mapping": {"world_size": tp, "tp_size": tp, "pp_size": 1},
        },
        "build_config": {"max_batch_size": 64, "max_seq_len": 8192, "plugin_config": {}},
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with an engine of two ranks."""
    folder = tmp_path / "out"
    engine = folder / "model_repository" / "tensorrt_llm" / "1" / "engine"
    engine.mkdir(parents=True)
    (engine / "config.json").write_text(json.dumps(engine_config()))
    for rank in range(2):
        (engine / f"rank{rank}.engine").write_bytes(b"plan")
    (engine.parent / "model.py").write_text(RANK)
    (engine.parent.parent / "config.pbtxt").write_text(ENGINE)
    add_ensemble(folder / "model_repository")
    write_manifest(folder)
    return folder


def write_manifest(folder: Path, **sections: dict[str, Any]) -> None:
    recipe = {
        "schema": 1,
        "name": "demo",
        "model": {"source": "file:///unused"},
        "engine": {"backend": "tensorrt"},
        "layout": {"gpus_per_node": 2, "tp": 2},
        "serve": {"startup_timeout_s": 30},
        **sections,
    }
    manifest = {"schema": 1, "name": "demo", "recipe": recipe, "stages": [], "files": []}
    (folder / "bwdeploy.json").write_text(json.dumps(manifest))


def test_an_engine_answers_through_its_ensemble_with_a_process_for_each_rank(out: Path) -> None:
    deployment = open_deployment(out)
    assert (deployment.model, deployment.vocabulary) == ("ensemble", ensemble_vocabulary("1.2.1"))
    assert deployment.engine is not None
    assert (deployment.engine.world_size, deployment.engine.mode) == (2, "leader")


def test_the_kernels_of_the_recipe_are_what_the_smoke_test_looks_for(tmp_path: Path) -> None:
    write_manifest(tmp_path, engine={}, layout={}, serve={"runtime": "reference", "model_name": "demo"})
    manifest = json.loads((tmp_path / "bwdeploy.json").read_text())
    manifest["recipe"]["kernels"] = ["add_rmsnorm_quant_fp8"]
    (tmp_path / "bwdeploy.json").write_text(json.dumps(manifest))
    (tmp_path / "model_repository" / "demo").mkdir(parents=True)
    (tmp_path / "model_repository" / "demo" / "config.pbtxt").write_text('name: "demo"')
    assert smoke_options(open_deployment(tmp_path)).kernels == ("add_rmsnorm_quant_fp8",)


def test_an_engine_is_served_by_this_machines_server(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    put_programs(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    told: list[str] = []
    options = ServeOptions(kind="system", log=tmp_path / "log")
    with serving(open_deployment(out), options, on_progress=told.append) as live:
        assert ask(live.endpoint, TEXT, Sampling(max_tokens=6)).text == TEXT[:6]
        notes = sorted((out / "model_repository" / "tensorrt_llm").glob("rank*"))
        assert [note.name for note in notes] == ["rank0of2", "rank1of2"]
        processes = [Path("/proc", note.read_text()) for note in notes]
        assert all(process.exists() for process in processes)
    assert not [process for process in processes if process.exists()]
    assert "this machine's tritonserver must carry TensorRT-LLM 1.2.1 exactly" in told


def test_the_bundled_server_is_refused_with_the_way_out(out: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="no TensorRT-LLM backend") as caught,
        serving(open_deployment(out), ServeOptions(log=tmp_path / "log")),
    ):
        pass
    assert "--server container" in caught.value.hint


def test_an_engine_that_this_machines_server_would_not_find_is_told_before_it_starts(
    out: Path, tmp_path: Path
) -> None:
    parameter = 'parameters { key: "gpt_model_path" value { string_value: "/models/nowhere/engine" } }\n'
    (out / "model_repository" / "tensorrt_llm" / "config.pbtxt").write_text(ENGINE + parameter)
    with (
        pytest.raises(HostError, match="opens its engine at /models/nowhere/engine") as caught,
        serving(open_deployment(out), ServeOptions(kind="system", log=tmp_path / "log")),
    ):
        pass
    assert f"ln -s {out / 'model_repository'} /models" in caught.value.hint


def test_ranks_on_several_machines_are_not_started_from_here(out: Path, tmp_path: Path) -> None:
    write_manifest(out, layout={"nodes": 2, "gpus_per_node": 1, "tp": 2})
    with (
        pytest.raises(HostError, match="2 ranks are spread over 2 machines"),
        serving(open_deployment(out), ServeOptions(kind="container", log=tmp_path / "log")),
    ):
        pass


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (
            engine_config(tp=4),
            r"lacks rank2\.engine, rank3\.engine; it has 4 ranks, and tp 2 and pp 1 make 2",
        ),
        (engine_config(version="1.2.0"), r"TensorRT-LLM 1\.2\.0 built it, and 1\.2\.1 is to load it"),
        ({"architectures": ["LlamaForCausalLM"]}, "is of no engine"),
    ],
)
def test_an_engine_that_does_not_fit_is_one_error(out: Path, config: dict[str, Any], wanted: str) -> None:
    place = out / "model_repository" / "tensorrt_llm" / "1" / "engine" / "config.json"
    place.write_text(json.dumps(config))
    with pytest.raises(StoreError, match=wanted) as caught:
        open_deployment(out)
    assert "Build the recipe again" in caught.value.hint


def test_a_repository_without_its_ensemble_is_not_whole(out: Path) -> None:
    (out / "model_repository" / "ensemble" / "config.pbtxt").unlink()
    with pytest.raises(StoreError, match="has no model ensemble"):
        open_deployment(out)


def test_an_output_for_trtllm_serve_says_how_to_start_it(tmp_path: Path) -> None:
    write_manifest(tmp_path, engine={"tensorrt_llm": "1.3.0rc20"}, serve={"server": "trtllm-serve"})
    with pytest.raises(HostError, match="is for trtllm-serve") as caught:
        open_deployment(tmp_path)
    error: BwdeployError = caught.value
    assert error.exit_code == 3
    assert str(tmp_path / "trtllm_serve" / "launch.sh") in error.hint
    assert "nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc20" in error.hint
