"""What `bwdeploy diff` calls a difference, and what not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from bwdeploy.cli import comparing
from bwdeploy.difference import Difference, compare
from bwdeploy.difference.figures import Range
from bwdeploy.difference.sides import Side, open_side
from bwdeploy.errors import RecipeError, StoreError
from bwdeploy.pipeline.output import MANIFEST, MANIFEST_SCHEMA
from bwdeploy.recipe.load import load_recipes
from bwdeploy.report.difference import difference_json, difference_text
from tests.checks.model_configs import SMALL_LLAMA

SHIPPED = Path(__file__).parents[1] / "recipes"
Data = dict[str, Any]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(SMALL_LLAMA))
    return tmp_path


def recipe(place: Path, name: str, **sections: Any) -> Path:
    data: Data = {
        "schema": 1,
        "name": name,
        "model": {"source": "file://model"},
        "quantize": {"format": "fp8"},
    }
    file = place / f"{name}.yaml"
    file.write_text(yaml.safe_dump(data | sections))
    return file


def between(a: Path, b: Path) -> Difference:
    return compare(open_side(a), open_side(b))


def values(difference: Difference) -> dict[str, tuple[Any, Any]]:
    return {".".join(one.path): (one.a, one.b) for one in difference.values}


def output(place: Path, name: str, built_from: Path, **changes: Any) -> Path:
    """An output directory as far as its manifest goes."""
    loaded = load_recipes(built_from)[0]
    stage = {
        "name": "quantize",
        "key": "k1",
        "tools": {"nvidia-modelopt": "0.47.0"},
        "files": [{"path": "model.safetensors", "sha256": "d1", "size_bytes": 1}],
    }
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "bwdeploy": "0.1.0",
        "name": loaded.recipe.name,
        "recipe_text": loaded.text,
        "recipe": loaded.recipe.model_dump(mode="json", by_alias=True),
        "stages": [stage | changes],
    }
    out = place / name
    out.mkdir()
    (out / MANIFEST).write_text(json.dumps(manifest))
    return out


# Values


def test_a_recipe_does_not_differ_from_itself(place: Path) -> None:
    file = recipe(place, "one")
    difference = between(file, file)
    assert difference.is_empty
    assert difference_text(difference).splitlines()[-1] == "no difference"
    assert difference_json(difference)["same"] is True


def test_name_order_and_comments_are_no_difference(place: Path) -> None:
    one = recipe(place, "one", layout={"tp": 1}, engine={"max_batch_size": 8})
    other = recipe(place, "other", engine={"max_batch_size": 8}, layout={"tp": 1})
    other.write_text("# a comment\n" + other.read_text())
    assert between(one, other).is_empty


@pytest.mark.parametrize(
    "written_out",
    [
        {"layout": {"tp": 1, "attention_dp": False}},
        {"engine": {"max_batch_size": 64, "llm_args": {}}},
        {"engine": {"llm_args": {"stream_interval": 1}}},
        {"engine": {"llm_args": {"cuda_graph_config": {}}}},
        {"engine": {"llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": 0.9}}}},
        {"speculative": None} | {"expect": {}},
    ],
)
def test_a_default_that_is_written_out_is_no_difference(place: Path, written_out: Data) -> None:
    written_out = {key: value for key, value in written_out.items() if value is not None}
    assert values(between(recipe(place, "one"), recipe(place, "other", **written_out))) == {}


def test_an_argument_that_is_not_set_is_shown_with_the_default_of_its_version(place: Path) -> None:
    one = recipe(place, "one", engine={"llm_args": {"moe_config": {"backend": "TRITON"}}})
    other = recipe(place, "other", engine={"tensorrt_llm": "1.3.0"})
    assert values(between(one, other)) == {
        "engine.tensorrt_llm": ("1.2.1", "1.3.0"),
        "engine.llm_args.moe_config.backend": ("TRITON", "AUTO"),
    }


def test_graphs_that_are_switched_off_differ_from_graphs_by_default_and_say_what_they_are_worth(
    place: Path,
) -> None:
    off = recipe(place, "off", engine={"llm_args": {"cuda_graph_config": None}})
    (change,) = between(off, recipe(place, "on")).values
    assert change.path == ("engine", "llm_args", "cuda_graph_config")
    assert change.a is None
    assert {(worth.side, worth.lever.id) for worth in change.worth} == {
        ("b", "cuda-graphs-latency"),
        ("b", "cuda-graphs-throughput"),
    }


def test_a_detail_of_graphs_that_both_have_is_worth_nothing(place: Path) -> None:
    padded = recipe(place, "padded", engine={"llm_args": {"cuda_graph_config": {"enable_padding": True}}})
    (change,) = between(padded, recipe(place, "plain")).values
    assert change.worth == ()


def test_a_base_and_what_it_says_are_the_same(place: Path) -> None:
    recipe(place, "below", layout={"tp": 2, "gpus_per_node": 2})
    upper = place / "upper.yaml"
    upper.write_text("base: below.yaml\nname: upper\nlayout: {tp: 1, gpus_per_node: 1}\n")
    assert between(upper, recipe(place, "flat")).is_empty


def test_shipped_latency_and_throughput_differ_by_levers_with_their_worth() -> None:
    latency = SHIPPED / "deepseek-r1-nvfp4-8xb200-latency.yaml"
    throughput = SHIPPED / "deepseek-r1-nvfp4-8xb200-throughput.yaml"
    difference = between(latency, throughput)
    shown = values(difference)
    assert shown["layout.ep"] == (2, 8)
    assert shown["speculative.draft_len"] == (3, None)
    worth = {(one.side, one.lever.id) for change in difference.values for one in change.worth}
    assert {("a", "mtp-3"), ("b", "attention-dp"), ("b", "kv-fp8-argument")} <= worth
    text = difference_text(difference)
    assert "  layout.ep: 2 → 8\n" in text
    assert "  expect.max-throughput: not set → 43,146 tokens_per_s\n" in text
    assert "      A's was worth: 111 → 253 tok/s/user" in text
    assert "\n[1] https://" in text


# What follows from the values


def test_findings_that_only_one_side_has_are_named(place: Path) -> None:
    clean, wrong = recipe(place, "clean"), recipe(place, "wrong", layout={"tp": 2})
    difference = between(clean, wrong)
    assert difference.findings_a == ()
    assert "layout-world-size" in {finding.rule for finding in difference.findings_b}
    shown = difference_json(difference)["findings"]
    assert shown["a"] == []
    assert shown["b"][0]["severity"] == "error"


def test_a_finding_of_both_sides_at_different_lines_is_no_difference(place: Path) -> None:
    one, other = recipe(place, "one", layout={"tp": 2}), recipe(place, "other", layout={"tp": 2})
    other.write_text("# a line\n" + other.read_text())
    assert between(one, other).is_empty


def test_memory_that_changes_is_shown_for_one_gpu(place: Path) -> None:
    bf16 = recipe(place, "bf16", quantize={"method": "none"})
    group, _ = between(recipe(place, "fp8"), bf16).groups
    figures = {figure.name: figure for figure in group.figures}
    weights = figures["weights per GPU"]
    assert isinstance(weights.a, int)
    assert isinstance(weights.b, int)
    assert 1.4 < weights.b / weights.a < 2.0
    assert figures["total per GPU"].unit == "bytes"


def test_memory_of_a_model_that_is_not_known_says_why(place: Path) -> None:
    other = recipe(place, "other", model={"source": "hf://nobody/nothing@" + "0" * 40})
    text = difference_text(between(recipe(place, "one"), other))
    assert "memory of B is not known: " in text


def test_speed_that_changes_is_shown_in_ranges_for_the_same_traffic() -> None:
    four, eight = (SHIPPED / f"llama-3.1-405b-nvfp4-{count}xb200.yaml" for count in (4, 8))
    difference = between(four, eight)
    _, group = difference.groups
    figures = {figure.name: figure for figure in group.figures}
    user = figures["tokens/s per user, one request at a time"]
    assert isinstance(user.a, Range)
    assert isinstance(user.b, Range)
    assert user.a.low < user.b.low
    text = difference_text(difference)
    assert "estimate (by arithmetic, 1,000 tokens in, 1,000 out, ranges of 0.5 to 2 times)" in text
    shown = difference_json(difference)["estimate"]["changed"][0]
    assert shown["a"]["low"] < shown["a"]["high"]


def test_a_speed_that_cannot_be_known_says_why(place: Path) -> None:
    layout = {"gpu": "B200"}
    other = recipe(place, "other", model={"source": "hf://nobody/nothing@" + "0" * 40}, layout=layout)
    text = difference_text(between(recipe(place, "one", layout=layout), other))
    assert "estimate of B is not known: " in text


# Builds


def test_a_build_is_compared_by_the_recipe_it_records(place: Path) -> None:
    file = recipe(place, "one")
    assert between(file, output(place, "out", file)).is_empty


def test_two_builds_differ_by_tools_keys_and_files(place: Path) -> None:
    file = recipe(place, "one")
    files = [{"path": "model.safetensors", "sha256": "d2", "size_bytes": 1}]
    newer = {"tools": {"nvidia-modelopt": "0.48.0"}, "key": "k2", "files": files}
    difference = between(output(place, "a", file), output(place, "b", file, **newer))
    assert values(difference) == {}
    assert {change.path: (change.a, change.b) for change in difference.builds} == {
        ("tools", "nvidia-modelopt"): ("0.47.0", "0.48.0"),
        ("quantize", "key"): ("k1", "k2"),
        ("quantize", "model.safetensors"): ("d1", "d2"),
    }
    text = difference_text(difference)
    assert "builds\n  tools nvidia-modelopt: 0.47.0 → 0.48.0\n  quantize key: k1 → k2\n" in text
    assert text.endswith("  quantize: 1 file differs")


def test_an_output_of_another_version_of_the_recipe_format_is_refused_with_the_way_out(place: Path) -> None:
    out = output(place, "out", recipe(place, "one"))
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["recipe"]["engine"]["turbo"] = True
    (out / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="is not one of this version: engine has no key 'turbo'") as caught:
        open_side(out)
    assert "compare the recipe files" in caught.value.hint


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "recipe": 3}'])
def test_a_damaged_manifest_is_a_clear_error(place: Path, content: str) -> None:
    out = place / "out"
    out.mkdir()
    (out / MANIFEST).write_text(content)
    with pytest.raises(StoreError) as caught:
        open_side(out)
    assert "uild the recipe again" in caught.value.hint


def test_a_directory_that_is_no_output_is_a_clear_error(place: Path) -> None:
    with pytest.raises(StoreError, match="is not an output of bwdeploy"):
        open_side(place / "model")


# Sides


def test_a_matrix_names_its_builds_and_the_way_to_one() -> None:
    file = SHIPPED / "smollm2-135m-formats.yaml"
    with pytest.raises(RecipeError, match="stands for 4 builds: smollm2-135m-formats-nvfp4, ") as caught:
        open_side(file)
    hint = caught.value.findings[0].hint
    assert hint == "Keep one, for example --set quantize.format=nvfp4"
    override = hint.rpartition("--set ")[2]
    assert open_side(file, overrides=[override]).loaded.recipe.quantize.format == "nvfp4"


def test_an_override_makes_a_difference(place: Path) -> None:
    file = recipe(place, "one")
    other: Side = open_side(file, overrides=["engine.max_batch_size=8"])
    assert values(compare(open_side(file), other)) == {"engine.max_batch_size": (64, 8)}


def test_a_build_cannot_be_overridden(place: Path) -> None:
    out = output(place, "out", recipe(place, "one"))
    with pytest.raises(RecipeError, match="is a build: --set changes recipes only"):
        open_side(out, overrides=["layout.tp=2"])


def test_a_file_that_is_not_there_is_a_clear_error(place: Path) -> None:
    with pytest.raises(RecipeError):
        open_side(place / "nothing.yaml")


# The verb


def diff(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(comparing.diff)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_verb_ends_well_whether_or_not_there_is_a_difference(place: Path) -> None:
    file, other = recipe(place, "one"), recipe(place, "other", engine={"max_batch_size": 8})
    same, changed = diff(file, file), diff(file, other)
    assert (same.exit_code, changed.exit_code) == (0, 0)
    assert same.stdout.endswith("no difference\n")
    assert "  engine.max_batch_size: 64 → 8\n" in changed.stdout


def test_the_verb_sets_values_of_both_sides_or_of_one(place: Path) -> None:
    file = recipe(place, "one")
    assert "no difference" in diff(file, file, "--set", "engine.max_batch_size=8").stdout
    shown = json.loads(diff(file, file, "--set-b", "engine.max_batch_size=8", "--json").stdout)
    assert shown["same"] is False
    assert shown["levers"] == [{"path": "engine.max_batch_size", "a": 64, "b": 8, "worth": []}]


def test_the_verb_keeps_one_build_of_a_matrix_on_each_side() -> None:
    file = SHIPPED / "smollm2-135m-formats.yaml"
    done = diff(file, file, "--set-a", "quantize.format=fp8", "--set-b", "quantize.format=nvfp4")
    assert done.exit_code == 0
    assert "  quantize.format: fp8 → nvfp4\n" in done.stdout
