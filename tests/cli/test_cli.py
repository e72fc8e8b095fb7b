"""The command line as a user meets it: output, exit codes, JSON, and no traceback for bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy import __version__

RECIPE = """\
schema: 1
name: tiny
model:
  source: file://./model
quantize:
  format: fp8
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    model = tmp_path / "model"
    model.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 256,
    }
    (model / "config.json").write_text(json.dumps(config))
    return tmp_path


def bwdeploy(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bwdeploy", *arguments],
        cwd=place,
        env=os.environ | {"BWDEPLOY_CACHE": str(place / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


def as_json(place: Path, *arguments: str) -> Any:
    done = bwdeploy(place, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_version_is_printed(place: Path) -> None:
    assert bwdeploy(place, "--version").stdout.strip() == f"bwdeploy {__version__}"


def test_no_arguments_show_the_verbs(place: Path) -> None:
    assert "build" in bwdeploy(place).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bild"], "Did you mean 'build'"),
        (["build"], "RECIPE"),
        (["check", "recipe.yaml", "--nope"], "--nope"),
        (["check", "recip.yaml"], "did you mean"),
        (["build", "recipe.yaml", "--until", "quantise"], "did you mean quantize"),
        (["check", "recipe.yaml", "--set", "quantize.fromat=fp8"], "did you mean quantize.format"),
        (["recipes", "show", "nope"], "smollm2-135m-nvfp4"),
    ],
)
def test_wrong_command_lines_exit_2_and_name_the_way_out(
    arguments: list[str], words: str, place: Path
) -> None:
    done = bwdeploy(place, *arguments)
    assert done.returncode == 2
    assert words.lower() in (done.stderr + done.stdout).lower()


def test_check_prints_every_problem_with_its_place(place: Path) -> None:
    (place / "recipe.yaml").write_text(RECIPE.replace("fp8", "fp7").replace("name: tiny", "nam: tiny"))
    done = bwdeploy(place, "check", "recipe.yaml")
    assert done.returncode == 2
    assert "recipe.yaml:2:1: nam:" in done.stdout
    assert "recipe.yaml:6:11: quantize.format:" in done.stdout


def test_check_json_has_the_promised_shape(place: Path) -> None:
    (place / "recipe.yaml").write_text(RECIPE.replace("fp8", "fp7"))
    done = bwdeploy(place, "check", "recipe.yaml", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 2
    assert answer["ok"] is False
    fields = {"rule", "severity", "path", "file", "line", "column", "message", "hint", "source"}
    assert answer["findings"][0].keys() == fields


def test_check_sarif_names_the_file_and_line(place: Path) -> None:
    (place / "recipe.yaml").write_text(RECIPE.replace("fp8", "fp7"))
    log = json.loads(bwdeploy(place, "check", "recipe.yaml", "--sarif").stdout)
    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "recipe.yaml"
    assert location["region"]["startLine"] == 6


def test_plan_json_has_the_promised_shape(place: Path) -> None:
    answer = as_json(place, "plan", "recipe.yaml")
    assert [stage["name"] for stage in answer["stages"]] == [
        "source", "quantize", "gate", "engine", "repository",
    ]  # fmt: skip
    assert answer["stages"][0].keys() == {"name", "key", "status", "why", "command"}
    assert answer["model"]["parameters"] == answer["model"]["active_parameters"] > 0
    memory = answer["memory"]
    assert memory.keys() >= {"per_gpu", "kv_bytes_per_token", "max_tokens_in_kv"}
    assert memory["kv_bytes_per_token"] == 2 * 2 * 2 * 16 * 2
    assert memory["per_gpu"][0].keys() >= {
        "weights_bytes", "kv_bytes", "activation_bytes", "total_bytes", "capacity_bytes",
    }  # fmt: skip


def test_plan_without_quantization_has_no_quantize_stage(place: Path) -> None:
    answer = as_json(
        place, "plan", "recipe.yaml", "--set", "quantize.method=none", "--set", "quantize.format=null"
    )
    assert "quantize" not in [stage["name"] for stage in answer["stages"]]


def test_matrix_plans_every_build(place: Path) -> None:
    (place / "recipe.yaml").write_text(RECIPE + "matrix:\n  quantize.format: [fp8, nvfp4]\n")
    answer = as_json(place, "plan", "recipe.yaml")
    assert [build["name"] for build in answer["builds"]] == ["tiny-fp8", "tiny-nvfp4"]


def test_build_of_a_directory_without_weights_fails_clearly_and_writes_nothing(place: Path) -> None:
    done = bwdeploy(place, "build", "recipe.yaml", "-o", "out", "--json")
    assert done.returncode == 4
    assert ".safetensors" in json.loads(done.stdout)["error"]["message"]
    assert not (place / "out").exists()


@pytest.mark.parametrize("verb", ["serve", "smoke", "verify"])
def test_directory_that_is_no_output_is_refused(verb: str, place: Path) -> None:
    done = bwdeploy(place, verb, "model")
    assert done.returncode == 5
    assert "bwdeploy build" in done.stderr


def test_recipe_copied_with_its_base_still_checks(place: Path) -> None:
    assert bwdeploy(place, "recipes", "copy", "smollm2-135m-fp8", "mine.yaml").returncode == 0
    assert bwdeploy(place, "check", "mine.yaml").returncode == 0
    again = bwdeploy(place, "recipes", "copy", "smollm2-135m-fp8", "mine.yaml")
    assert again.returncode == 5


def test_listed_recipes_can_be_shown(place: Path) -> None:
    for recipe in as_json(place, "recipes", "list"):
        assert "schema: 1" in bwdeploy(place, "recipes", "show", recipe["name"]).stdout or "base:" in (
            bwdeploy(place, "recipes", "show", recipe["name"]).stdout
        )


def test_schema_is_a_json_schema(place: Path) -> None:
    assert "$schema" in json.loads(bwdeploy(place, "schema").stdout)


def test_doctor_names_what_it_looked_at(place: Path) -> None:
    names = {check["name"] for check in as_json(place, "doctor")["checks"]}
    assert {"python", "model packages", "device", "bundled Triton", "store"} <= names


def test_empty_store_lists_and_collects_nothing(place: Path) -> None:
    assert as_json(place, "store", "ls") == []
    assert as_json(place, "store", "gc")["removed"] == []


def test_unwritable_store_is_a_clear_error(place: Path) -> None:
    (place / "cache").write_text("a file where the cache directory should be")
    done = bwdeploy(place, "plan", "recipe.yaml")
    assert done.returncode == 5


def test_a_rule_is_explained_with_its_source(place: Path) -> None:
    done = bwdeploy(place, "check", "--explain", "layout-world-size")
    assert done.stdout.startswith("layout-world-size (error): ")
    assert "https://github.com/NVIDIA/TensorRT-LLM/issues/2813" in done.stdout


def test_a_rule_is_explained_as_json(place: Path) -> None:
    shown = as_json(place, "check", "--explain", "quantize-format-on-gpu")
    assert set(shown) == {"rule", "severity", "summary", "why", "sources"}
    assert shown["why"]


def test_an_unknown_rule_names_the_nearest(place: Path) -> None:
    done = bwdeploy(place, "check", "--explain", "layout-world-sise")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean layout-world-size" in done.stderr.lower()


def test_check_without_anything_says_what_it_needs(place: Path) -> None:
    done = bwdeploy(place, "check")
    assert done.returncode == 2
    assert "--explain" in done.stderr


def test_a_copied_recipe_is_named_with_the_bases_that_came_along(place: Path) -> None:
    shown = as_json(place, "recipes", "copy", "smollm2-135m-fp8", "mine.yaml")
    assert shown == {"name": "smollm2-135m-fp8", "file": "mine.yaml", "bases": ["smollm2-135m-nvfp4.yaml"]}
    done = bwdeploy(place, "recipes", "copy", "smollm2-135m-fp8", "/proc/none/mine.yaml")
    assert done.returncode == 5
    assert "cannot write" in done.stderr


def test_a_layout_is_suggested_even_where_the_own_one_is_wrong(place: Path) -> None:
    wrong = ("--set", "layout={gpu: B200, gpus_per_node: 8, tp: 3}")
    assert bwdeploy(place, "check", "recipe.yaml", *wrong).returncode == 2
    done = bwdeploy(place, "plan", "recipe.yaml", *wrong, "--suggest", "latency")
    assert done.returncode == 0
    assert "layout for latency on B200" in done.stdout
    assert "attention heads" in done.stdout


def test_a_suggestion_names_every_layout_that_does_not_work(place: Path) -> None:
    shown = as_json(
        place,
        "plan",
        "recipe.yaml",
        "--set",
        "layout={gpu: B200, gpus_per_node: 8}",
        "--suggest",
        "throughput",
    )
    assert shown["chosen"]["layout"]["tp"] == 1
    assert all(one["reason"] for one in shown["rejected"])


def test_layout_auto_is_what_the_plan_goes_on_with(place: Path) -> None:
    shown = as_json(
        place, "plan", "recipe.yaml", "--set", "layout={auto: latency, gpu: B200, gpus_per_node: 2}"
    )
    assert len(shown["memory"]["per_gpu"]) == 2
