"""Published effects of settings: complete, about real keys, and in use only where a recipe says so."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.checks.schema_walk import SchemaWalk
from bwdeploy.facts.levers import Lever, all_levers, levers_at, value_at
from bwdeploy.facts.llm_args import bundled_schema
from bwdeploy.recipe.words import path_problem

LEVERS = all_levers()
IDS = [lever.id for lever in LEVERS]
LLM_ARGS = ("engine", "llm_args")


def knows(path: tuple[str, ...]) -> bool:
    if path[:2] != LLM_ARGS:
        return path_problem(path) is None
    schema = bundled_schema("1.2.1")
    assert schema is not None
    return SchemaWalk(schema.schema).property_at(path[2:])


@pytest.mark.parametrize("lever", LEVERS, ids=IDS)
def test_a_lever_names_real_keys_of_a_recipe(lever: Lever) -> None:
    assert knows(lever.path), lever.path
    for condition in lever.when:
        assert knows(condition.path), condition.path


@pytest.mark.parametrize("lever", LEVERS, ids=IDS)
def test_a_lever_says_where_its_figure_comes_from(lever: Lever) -> None:
    assert lever.source.startswith("https://")
    assert all((lever.effect, lever.model, lever.hardware, lever.workload, lever.software))
    assert lever.ratio is None or 1.0 < lever.ratio < 10.0
    assert all(condition.test in {"equal", "above", "set", "on"} for condition in lever.when)


def test_no_two_levers_share_an_id() -> None:
    assert len(set(IDS)) == len(IDS) > 20


@pytest.mark.parametrize("lever", LEVERS, ids=IDS)
def test_a_ratio_agrees_with_the_two_figures_of_its_effect(lever: Lever) -> None:
    before, arrow, after = lever.effect.partition(" → ")
    first, second = before.replace(",", ""), after.split(" ")[0].replace(",", "")
    if arrow and lever.ratio is not None and first.replace(".", "").isdigit():
        assert lever.ratio == pytest.approx(float(second) / float(first), abs=0.006)


def ids_at(path: str, *recipes: dict[str, Any]) -> set[str]:
    return {lever.id for lever in levers_at(tuple(path.split(".")), *recipes)}


def test_a_draft_length_is_worth_what_was_published_for_that_length() -> None:
    three = {"speculative": {"method": "mtp", "draft_len": 3}}
    assert ids_at("speculative.draft_len", three) == {"mtp-3"}
    assert ids_at("speculative.draft_len", {"speculative": {"method": "mtp", "draft_len": 9}}) == set()
    assert ids_at("speculative.draft_len", {"speculative": None}, three) == {"mtp-3"}


def test_graphs_that_are_switched_off_are_worth_nothing() -> None:
    graphs: dict[str, Any] = {"engine": {"llm_args": {"cuda_graph_config": {"enable_padding": True}}}}
    off: dict[str, Any] = {"engine": {"llm_args": {"cuda_graph_config": None}}}
    path = "engine.llm_args.cuda_graph_config.enable_padding"
    assert ids_at(path, graphs) == {"cuda-graphs-latency", "cuda-graphs-throughput"}
    assert ids_at(path, off) == set()


def test_a_flag_is_not_above_a_number() -> None:
    assert ids_at("layout.ep", {"layout": {"ep": True, "attention_dp": True}}) == set()


def test_a_path_through_a_single_value_leads_nowhere() -> None:
    assert value_at({"layout": 3}, ("layout", "tp")) is None
