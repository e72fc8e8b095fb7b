"""`speculative_config` in the words of each TensorRT-LLM version."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.checks.llm_args import check_llm_args
from bwdeploy.facts.speculation import (
    captured_layers,
    completed_arguments,
    measured_length,
    schedule_for,
    speculative_config,
)
from bwdeploy.migration.argument_values import upper_bounds
from bwdeploy.recipe.schema import Speculative

EAGLE = Speculative(method="eagle3", draft="hf://a/b@main", draft_len=4)
MTP = Speculative(method="mtp", draft_len=2)


@pytest.mark.parametrize(
    ("speculative", "version", "expected"),
    [
        (EAGLE, "1.2.1", {"decoding_type": "Eagle", "max_draft_len": 4, "speculative_model": "/d"}),
        (EAGLE, "1.2.0rc3", {"decoding_type": "Eagle", "max_draft_len": 4, "speculative_model_dir": "/d"}),
        (EAGLE, "1.3.0rc20", {"decoding_type": "Eagle3", "max_draft_len": 4, "speculative_model": "/d"}),
        (EAGLE, "1.4.0rc1", {"decoding_type": "Eagle3", "max_draft_len": 4, "speculative_model": "/d"}),
        (MTP, "1.2.1", {"decoding_type": "MTP", "num_nextn_predict_layers": 2}),
        (MTP, "1.3.0rc20", {"decoding_type": "MTP", "max_draft_len": 2}),
        (MTP, "no version", {"decoding_type": "MTP", "max_draft_len": 2}),
    ],
)
def test_each_version_gets_its_own_words(
    speculative: Speculative, version: str, expected: dict[str, Any]
) -> None:
    assert speculative_config(speculative, version, draft_directory="/d") == expected


@pytest.mark.parametrize("method", ["eagle", "medusa"])
def test_heads_inside_an_engine_are_nothing_to_the_llm_api(method: Any) -> None:
    heads, given = Speculative(method=method), {"speculative_config": {"max_draft_len": 3}}
    assert speculative_config(heads, "1.2.1", draft_directory="/d") == {}
    assert completed_arguments(given, heads, "1.2.1") == given


@pytest.mark.parametrize("version", ["1.2.1", "1.3.0rc20", "1.3.0rc28", "1.4.0rc1"])
@pytest.mark.parametrize("speculative", [EAGLE, MTP], ids=["eagle3", "mtp"])
def test_the_version_accepts_what_is_written_for_it(speculative: Speculative, version: str) -> None:
    config = speculative_config(speculative, version, draft_directory="/d")
    assert check_llm_args(version, {"speculative_config": config}) == ()


AUTO = Speculative(method="eagle3", draft="hf://a/b@main", draft_len="auto")


def test_a_length_that_is_yet_to_be_measured_is_left_out() -> None:
    assert speculative_config(AUTO, "1.2.1", draft_directory="draft") == {
        "decoding_type": "Eagle",
        "speculative_model": "draft",
    }


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.1", {1: 4, 4: 2, 8: 0}),
        ("1.3.0rc20", {3: 4, 7: 2}),
        ("1.4.0rc1", {3: 4, 7: 2}),
        ("1.1.0", None),
    ],
)
def test_a_schedule_has_the_keys_of_the_version(version: str, expected: dict[int, int] | None) -> None:
    assert schedule_for(version, {1: 4, 4: 2, 8: 0}, largest_batch=64) == expected


@pytest.mark.parametrize(
    ("largest", "old", "new"),
    [(64, {1: 4, 4: 2}, {3: 4, 64: 2}), (4, {1: 4, 4: 2}, {3: 4, 4: 2}), (3, None, None)],
)
def test_a_schedule_ends_with_the_largest_batch(
    largest: int, old: dict[int, int] | None, new: dict[int, int] | None
) -> None:
    assert schedule_for("1.2.1", {1: 4, 4: 2}, largest_batch=largest) == old
    assert schedule_for("1.3.0rc20", {1: 4, 4: 2}, largest_batch=largest) == new


def test_keys_of_1_3_are_what_a_migration_makes_of_those_of_1_2() -> None:
    schedule = {1: 5, 3: 3, 17: 1, 40: 0}
    old = schedule_for("1.2.1", schedule, largest_batch=64)
    assert old is not None
    assert schedule_for("1.3.0", schedule, largest_batch=64) == upper_bounds(old, 64)


@pytest.mark.parametrize("version", ["1.2.1", "1.3.0rc20", "1.3.0rc28", "1.4.0rc1"])
@pytest.mark.parametrize("method", ["eagle3", "mtp"])
def test_the_version_accepts_measured_lengths(method: Any, version: str) -> None:
    config = speculative_config(AUTO.model_copy(update={"method": method}), version, draft_directory="/d")
    config |= measured_length(method, version, {1: 4, 4: 2, 8: 0}, largest_batch=64)
    config |= captured_layers(version, (1, 14, 26)) if method == "eagle3" else {}
    assert config["draft_len_schedule"]
    assert check_llm_args(version, {"speculative_config": config}) == ()


def test_one_length_for_all_batches_needs_no_schedule() -> None:
    assert measured_length("mtp", "1.2.1", {1: 3}, largest_batch=8) == {"num_nextn_predict_layers": 3}
    assert measured_length("eagle3", "1.3.0", {1: 3}, largest_batch=8) == {"max_draft_len": 3}


def test_older_versions_know_no_captured_layers() -> None:
    assert captured_layers("1.1.0", (1, 2, 3)) == {}


def test_without_a_directory_the_draft_is_left_out() -> None:
    config = speculative_config(EAGLE, "1.2.1", draft_directory=None)
    assert config == {"decoding_type": "Eagle", "max_draft_len": 4}


def test_arguments_get_the_decoding_type_of_the_section() -> None:
    given = {"speculative_config": {"relaxed_topk": 10}}
    completed = completed_arguments(given, MTP, "1.2.1")
    assert completed == {"speculative_config": {"decoding_type": "MTP", "relaxed_topk": 10}}
    assert given == {"speculative_config": {"relaxed_topk": 10}}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"speculative_config": None},
        {"speculative_config": 3},
        {"speculative_config": {"decoding_type": 1}},
    ],
)
def test_arguments_that_need_no_completion_are_left_alone(given: dict[str, Any]) -> None:
    assert completed_arguments(given, EAGLE, "1.2.1") is given


def test_without_a_section_arguments_are_left_alone() -> None:
    given: dict[str, Any] = {"speculative_config": {}}
    assert completed_arguments(given, None, "1.2.1") is given
