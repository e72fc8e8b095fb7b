"""`speculative_config` in the words of each TensorRT-LLM version."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.checks.llm_args import check_llm_args
from bwdeploy.facts.speculation import completed_arguments, speculative_config
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
