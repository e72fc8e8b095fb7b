"""Whole builds of a tiny model through the command line: real ModelOpt, real processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.place import Place
from tests.worker.tiny_llama import make_tiny_llama

RECIPE = """\
schema: 1
name: tiny
model:
  source: file://model
quantize:
  format: nvfp4
  calibration: {samples: 4, seq_len: 32}
engine: {max_batch_size: 2, max_num_tokens: 64, max_seq_len: 64}
gate:
  evaluation: {samples: 4, seq_len: 32}
serve: {runtime: reference, model_name: tiny}
"""


def place_in(root: Path, model: Path) -> Place:
    """A place with the recipe and a link to the model."""
    (root / "model").symlink_to(model)
    return Place(root, RECIPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Place:
    """A place whose recipe is built into `out`."""
    place = place_in(tmp_path_factory.mktemp("built"), model)
    answer, _ = place.run("build", "recipe.yaml", "-o", "out")
    assert answer["ok"] is True
    assert {stage["status"] for stage in answer["stages"]} == {"built"}
    return place


def statuses(answer: Any) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in answer["stages"]}


def test_output_is_a_whole_model_repository(built: Place) -> None:
    version = built.root / "out/model_repository/tiny/1"
    for name in ("model.py", "engine.json", "llm_args.yaml", "bwdeploy_runtime/worker/__main__.py"):
        assert (version / name).is_file()
    checkpoint = {path.name for path in (version / "checkpoint").iterdir()}
    assert {
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "hf_quant_config.json",
    } <= checkpoint
    assert (built.root / "out/report/audit.json").is_file()
    assert "<svg" in (built.root / "out/report/index.html").read_text(encoding="utf-8")


def test_output_verifies_and_damage_is_found_and_repaired(built: Place) -> None:
    assert built.run("verify", "out")[0]["ok"] is True
    damaged = built.root / "out/model_repository/tiny/1/engine.json"
    damaged.unlink()
    damaged.write_text("{}")
    answer, _ = built.run("verify", "out", code=6)
    assert "engine.json" in answer["problems"][0]
    built.run("build", "recipe.yaml", "-o", "out")
    assert built.run("verify", "out")[0]["ok"] is True


def test_build_with_nothing_to_do_runs_no_stage(built: Place) -> None:
    answer, _ = built.run("build", "recipe.yaml", "-o", "out")
    assert set(statuses(answer).values()) == {"cached"}


def test_changed_serving_flag_rebuilds_the_repository_only(built: Place) -> None:
    answer, _ = built.run("build", "recipe.yaml", "-o", "other", "--set", "serve.flush_tokens=4")
    assert [name for name, status in statuses(answer).items() if status == "built"] == ["repository"]


def test_changed_smoke_prompt_rebuilds_nothing(built: Place) -> None:
    answer, _ = built.run("build", "recipe.yaml", "-o", "other", "--set", "serve.prompts=[Hello]")
    assert set(statuses(answer).values()) == {"cached"}


def test_plan_says_what_would_run_and_why(built: Place) -> None:
    answer, _ = built.run("plan", "recipe.yaml", "--set", "quantize.format=fp8")
    stages = {stage["name"]: stage for stage in answer["stages"]}
    assert stages["source"]["status"] == "cached"
    assert 'params.format: "nvfp4" → "fp8"' in stages["quantize"]["why"]


def test_broken_limit_stops_with_6_measures_nothing_again_and_writes_nothing(built: Place) -> None:
    limit = ("--set", "gate.max_weight_error=0.001")
    answer, _ = built.run("build", "recipe.yaml", "-o", "refused", *limit, code=6)
    assert "max_weight_error" in answer["error"]["message"]
    assert not (built.root / "refused").exists()
    plan, _ = built.run("plan", "recipe.yaml", *limit)
    assert {stage["status"] for stage in plan["stages"]} == {"cached"}


def test_store_lists_and_collects_only_what_no_recipe_uses(built: Place) -> None:
    before = built.run("store", "ls")[0]
    built.run("build", "recipe.yaml", "-o", "out")
    removed = built.run("store", "gc")[0]["removed"]
    assert len(built.run("store", "ls")[0]) == len(before) - len(removed)
    answer, _ = built.run("build", "recipe.yaml", "-o", "out")
    assert set(statuses(answer).values()) == {"cached"}


def test_unquantized_recipe_serves_the_source(built: Place) -> None:
    none = ("--set", "quantize.method=none", "--set", "quantize.format=null", "--set", "name=plain")
    answer, _ = built.run("build", "recipe.yaml", "-o", "plain", *none)
    assert list(statuses(answer)) == ["source", "gate", "engine", "repository"]
    report = json.loads((built.root / "plain/report/audit.json").read_text())
    assert report["quantized_perplexity"] == pytest.approx(report["source_perplexity"])


def test_exported_checkpoint_can_be_the_source_of_a_prequantized_recipe(built: Place) -> None:
    checkpoint = built.root / "out/model_repository/tiny/1/checkpoint"
    settings = (
        f"model.source=file://{checkpoint}",
        "quantize.method=prequantized",
        "quantize.format=null",
        "name=pre",
    )
    answer, _ = built.run(
        "build", "recipe.yaml", "-o", "pre", *(word for one in settings for word in ("--set", one))
    )
    assert "quantize" not in statuses(answer)
    report = json.loads((built.root / "pre/report/audit.json").read_text())
    assert report["quant_algo"] == "NVFP4"
    assert report["source_perplexity"] is None


def test_build_killed_while_quantizing_resumes_there(tmp_path: Path, model: Path) -> None:
    place = place_in(tmp_path, model)
    with place.start("build", "recipe.yaml", "-o", "out") as killed:
        assert killed.stderr is not None
        for line in killed.stderr:
            if "quantize: import" in line:
                break
        time.sleep(1.0)
        killed.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    answer, _ = place.run("build", "recipe.yaml", "-o", "out")
    assert statuses(answer)["source"] == "cached"
    assert statuses(answer)["quantize"] == "built"
    assert list((tmp_path / "cache/store/building").iterdir()) == []
    assert place.run("verify", "out")[0]["ok"] is True


def test_two_builds_at_once_both_succeed_and_do_the_work_once(tmp_path: Path, model: Path) -> None:
    place = place_in(tmp_path, model)
    builds = [place.start("build", "recipe.yaml", "-o", f"out{number}", "--json") for number in (1, 2)]
    answers = [json.loads(build.communicate(timeout=240)[0]) for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    for stage in ("quantize", "gate"):
        assert sorted(statuses(answer)[stage] for answer in answers) == ["built", "cached"]


def test_interrupted_build_exits_130_and_keeps_what_was_finished(tmp_path: Path, model: Path) -> None:
    place = place_in(tmp_path, model)
    with place.start("build", "recipe.yaml", "-o", "out") as build:
        assert build.stderr is not None
        for line in build.stderr:
            if "quantize: import" in line:
                break
        build.send_signal(signal.SIGINT)
        stderr = build.stderr.read()
        assert build.wait(30) == 130
    assert "Run the same command again" in stderr
    assert place.run("store", "ls")[0][0]["stage"] == "source"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda model: (model / "model.safetensors").write_bytes(b"\x10"), "model.safetensors"),
        (lambda model: os.truncate(model / "model.safetensors", 50_000), "its header describes"),
        (lambda model: (model / "tokenizer.json").unlink(), "tokenizer"),
    ],
)
def test_damaged_source_is_one_clear_error(
    damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    model = make_tiny_llama(tmp_path)
    damage(model)
    root = tmp_path / "place"
    root.mkdir()
    answer, _ = place_in(root, model).run("build", "recipe.yaml", "-o", "out", code=4)
    assert words in answer["error"]["message"]
    assert not (root / "out").exists()


def test_damaged_configuration_is_found_before_anything_runs(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path)
    (model / "config.json").write_text("{")
    root = tmp_path / "place"
    root.mkdir()
    answer, _ = place_in(root, model).run("build", "recipe.yaml", "-o", "out", code=2)
    (finding,) = answer["error"]["findings"]
    assert finding["rule"] == "model-config-unreadable"
    assert not (root / "out").exists()
