"""Whole builds of engines through the command line: real ModelOpt, a stand-in for trtllm-build."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.engine_place import ENGINE
from tests.place import Place

FAILURE = (
    "[TRT-LLM] [I] Building rank 1 engine: 97% after 61 minutes",
    "[TRT-LLM] [E] [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
)


@pytest.fixture(scope="module")
def place(engine_place: Place) -> Place:
    """A place whose recipe is built as an engine into `engine`."""
    return engine_place


def test_an_engine_becomes_five_models_and_a_launch_script(place: Place) -> None:
    repository = place.root / "engine" / "model_repository"
    assert {path.parent.name for path in repository.glob("*/config.pbtxt")} == {
        "ensemble", "preprocessing", "postprocessing", "tensorrt_llm", "tensorrt_llm_bls",
    }  # fmt: skip
    engine = repository / "tensorrt_llm" / "1" / "engine"
    assert {path.name for path in engine.iterdir()} == {"config.json", "rank0.engine", "rank1.engine"}
    assert "mpirun" in (repository / "launch.sh").read_text()


def test_what_was_built_is_found_again_and_checks(place: Place) -> None:
    again, _ = place.run("build", "recipe.yaml", "--set", ENGINE, "-o", "engine")
    assert {stage["status"] for stage in again["stages"]} == {"cached"}
    findings, _ = place.run("check", "engine/model_repository")
    # The five models are what an engine's clients know; what is wrong with ensembles is said all the same.
    assert {one["rule"] for one in findings["findings"]} == {"triton-ensemble-llm"}
    place.run("verify", "engine")


def test_the_manifest_says_what_ran(place: Place) -> None:
    manifest = json.loads((place.root / "engine" / "bwdeploy.json").read_text())
    stage = next(one for one in manifest["stages"] if one["name"] == "engine")
    assert {file["path"] for file in stage["files"]} >= {"engine/rank0.engine", "build.json"}
    assert all(len(file["sha256"]) == 64 for file in stage["files"])


def test_the_same_recipe_builds_for_the_other_backend(place: Place) -> None:
    answer, stderr = place.run("build", "recipe.yaml", "-o", "llm")
    assert answer["ok"] is True
    assert "engine.build_flags: no engine is built with backend pytorch" in stderr
    assert (place.root / "llm" / "model_repository" / "tensorrt_llm" / "1" / "llm_args.yaml").is_file()


def test_a_build_that_fails_late_shows_why_and_keeps_the_checkpoint(place: Place) -> None:
    log = place.root / "failure.log"
    log.write_text("\n".join(FAILURE))
    answer, stderr = place.run(
        "build", "recipe.yaml", "--set", ENGINE, "--set", "engine.max_batch_size=3",
        code=4, environment={"STAND_IN_FAIL_LOG": str(log)},
    )  # fmt: skip
    assert "out of memory" in stderr
    assert "log: " in stderr
    assert "max_batch_size" in answer["error"]["hint"]
    plan, _ = place.run("plan", "recipe.yaml", "--set", ENGINE, "--set", "engine.max_batch_size=3")
    assert {stage["name"]: stage["status"] for stage in plan["stages"]} == {
        "source": "cached", "quantize": "cached", "gate": "cached", "engine": "run", "repository": "run",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"STAND_IN_OMIT_RANK": "1"}, "lacks rank1.engine"),
        ({"STAND_IN_VERSION": "1.1.0"}, "it was built by TensorRT-LLM 1.1.0, not 1.2.1"),
    ],
)
def test_an_engine_that_is_not_what_was_asked_for_is_not_published(
    place: Place, environment: dict[str, str], message: str
) -> None:
    answer, _ = place.run(
        "build", "recipe.yaml", "--set", ENGINE, "--set", "engine.max_batch_size=4",
        code=4, environment=environment,
    )  # fmt: skip
    assert message in answer["error"]["message"]


def test_without_trtllm_build_the_way_out_is_named_before_anything_runs(place: Place) -> None:
    without = os.pathsep.join(
        path for path in os.environ["PATH"].split(os.pathsep) if not Path(path, "trtllm-build").exists()
    )
    cache = place.root / "empty"
    answer, _ = place.run(
        "build", "recipe.yaml", "--set", ENGINE,
        code=3, environment={"PATH": without, "BWDEPLOY_CACHE": str(cache)},
    )  # fmt: skip
    assert "trtllm-build" in answer["error"]["message"]
    assert "--executor container" in answer["error"]["hint"]
    assert not [
        *cache.glob("store/artifacts/*"),
        *cache.glob("store/building/*"),
        *cache.glob("store/logs/*"),
    ]


def test_the_reference_runtime_serves_the_ranks_and_needs_no_engine(place: Place) -> None:
    runtime = ("--set", "serve.runtime=reference")
    answer, _ = place.run("build", "recipe.yaml", "--set", ENGINE, *runtime, "-o", "joined")
    assert {stage["name"]: stage["status"] for stage in answer["stages"]} == {
        "source": "cached", "quantize": "cached", "gate": "cached", "repository": "built",
    }  # fmt: skip
    checkpoint = place.root / "joined" / "model_repository" / "tensorrt_llm" / "1" / "checkpoint"
    assert (checkpoint / "hf_quant_config.json").is_file()


def test_a_version_without_an_image_gets_the_files_of_trtllm_serve(place: Place) -> None:
    answer, _ = place.run(
        "build", "recipe.yaml", "-o", "served",
        "--set", "engine.tensorrt_llm=1.3.0rc22", "--set", "serve.server=trtllm-serve",
    )  # fmt: skip
    assert answer["ok"] is True
    assert (place.root / "served" / "trtllm_serve" / "config.yaml").is_file()
    refused, _ = place.run("smoke", "served", code=3)
    assert "trtllm-serve" in refused["error"]["message"]
