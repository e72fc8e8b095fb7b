from __future__ import annotations

import json

import pytest

from bwdeploy.model.describe import DescribedModel
from bwdeploy.model.shape import ModelShape
from bwdeploy.planner.layout.suggest import Goal, Suggestion, suggest
from bwdeploy.recipe.schema import Recipe
from bwdeploy.report.layouts import layout_name, suggestion_json, suggestion_text
from tests.planner.shapes import deepseek_r1, dense


def described(shape: ModelShape | None) -> DescribedModel:
    return DescribedModel(config=None, origin="tests", shape=shape, problem=None)


def suggestion(shape: ModelShape | None, goal: Goal, **values: object) -> Suggestion:
    sections = {
        "quantize": {"format": "nvfp4", "kv_cache": "fp8"},
        "engine": {"max_batch_size": 512, "max_seq_len": 4096},
        **values,
    }
    recipe = Recipe.model_validate(
        {"schema": 1, "name": "r", "model": {"source": "file://model"}, **sections}
    )
    return suggest(recipe, described(shape), goal)


def r1(goal: Goal, **values: object) -> Suggestion:
    return suggestion(deepseek_r1(), goal, quantize={"format": "nvfp4_experts_only"}, **values)


def test_no_gpu_means_one_node_of_b200_and_is_said() -> None:
    found = r1("latency")
    assert found.gpu == "b200"
    assert found.assumptions == ("layout.gpu is not given: one node of 8 b200 is assumed",)
    assert found.chosen is not None
    assert found.chosen.gpus_per_node == 8


def test_latency_takes_all_gpus_of_the_nvlink_domain() -> None:
    chosen = r1("latency").chosen
    assert chosen is not None
    assert (chosen.tp, chosen.pp, chosen.attention_dp) == (8, 1, False)


def test_throughput_of_an_mla_model_takes_data_parallel_attention_and_expert_parallelism() -> None:
    chosen = r1("throughput").chosen
    assert chosen is not None
    assert chosen.attention_dp
    assert chosen.ep > 1
    assert chosen.pp == 1


def test_throughput_of_a_70b_model_takes_few_gpus() -> None:
    chosen = suggestion(dense(), "throughput", layout={"gpu": "B200", "gpus_per_node": 8}).chosen
    assert chosen is not None
    assert chosen.tp == 1


def test_what_is_too_large_says_how_much_it_needs_of_what() -> None:
    rejected = [one for one in r1("latency").rejected if one.key == "memory"]
    assert {layout_name(one.layout) for one in rejected} >= {"tp 1", "tp 2"}
    assert all("of 179.1 GiB for one request of 4096 tokens" in one.reason for one in rejected)


def test_pcie_cards_get_stages() -> None:
    found = suggestion(dense(), "throughput", layout={"gpu": "rtx-pro-6000", "gpus_per_node": 4})
    assert found.chosen is not None
    assert found.chosen.tp == 1
    assert {one.key for one in found.rejected} == {"pcie"}


def test_no_layout_reaches_beyond_nvlink() -> None:
    found = r1("latency", layout={"gpu": "B200", "nodes": 2, "gpus_per_node": 8})
    assert all(one.layout.tp <= 8 for one in found.ranked)
    assert any(one.key == "nvlink" for one in found.rejected)


def test_conflicts_of_heads_are_reasons() -> None:
    found = suggestion(dense(heads=40, kv_heads=10), "latency", layout={"gpu": "B200", "gpus_per_node": 8})
    assert any(one.key == "tp-kv-heads" and "10 KV heads" in one.reason for one in found.rejected)


def test_a_model_that_fits_nowhere_says_so() -> None:
    found = r1("throughput", layout={"gpu": "RTX5090", "gpus_per_node": 1})
    assert found.chosen is None
    assert found.problem == "the model does not fit these GPUs in any layout"


def test_an_unknown_shape_or_gpu_is_a_problem_and_no_error() -> None:
    assert suggestion(None, "latency").problem
    assert "B2000" in str(r1("latency", layout={"gpu": "B2000"}).problem)


@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_the_same_recipe_always_gets_the_same_suggestion(goal: Goal) -> None:
    assert r1(goal) == r1(goal)


def test_the_workload_is_that_of_the_expectation() -> None:
    workload = {"input_tokens": 100, "output_tokens": 200}
    figure = {"metric": "tokens_per_s", "value": 1, "source": "x", "workload": workload}
    load = r1("latency", expect={"speed": figure}).load
    assert load is not None
    assert load[1:] == (100, 200)


def test_text_groups_the_rejected_layouts() -> None:
    text = suggestion_text("r1", r1("latency"))
    assert "chosen  tp 8" in text
    assert "too large for the GPU (" in text
    assert "… and " in text
    assert max(len(line) for line in text.splitlines()) < 260


def test_json_carries_a_band_with_every_speed() -> None:
    shown = json.loads(json.dumps(suggestion_json("r1", r1("throughput"))))
    assert shown["chosen"]["layout"]["gpu"] == "b200"
    for one in (shown["chosen"], *shown["runners_up"]):
        speed = one["tokens_per_s_per_gpu"]
        assert speed["low"] < speed["value"] < speed["high"]
    assert all(one["reason"] for one in shown["rejected"])
