from __future__ import annotations

import math
from typing import Any

import pytest

from bwdeploy_runtime.errors import InvalidRequestError
from bwdeploy_runtime.sampling import SamplingParams


def parse(limit: int = 100, /, **values: Any) -> SamplingParams:
    return SamplingParams.parse(values, max_tokens_limit=limit)


def test_nothing_given_is_greedy_with_32_tokens_as_in_tensorrt_llm() -> None:
    assert parse().greedy
    assert parse().max_tokens == 32


def test_the_default_length_obeys_the_limit() -> None:
    assert parse(8).max_tokens == 8


@pytest.mark.parametrize(
    "values", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}, {"temperature": 2.0, "top_k": 1}]
)
def test_one_choice_is_greedy(values: dict[str, float]) -> None:
    assert parse(**values).greedy


@pytest.mark.parametrize("values", [{"temperature": 0.7}, {"top_k": 5}, {"top_k": 0}, {"top_p": 0.9}])
def test_anything_else_samples(values: dict[str, float]) -> None:
    assert not parse(**values).greedy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0, outside 1 to 100."),
        ({"max_tokens": 101}, "max_tokens is 101, outside 1 to 100."),
        ({"max_tokens": 1.5}, "max_tokens is 1.5, not a whole number."),
        ({"temperature": -0.1}, "temperature is -0.1, outside 0.0 and above."),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": True}, "temperature is True, not a number."),
        ({"frequency_penalty": math.nan}, "frequency_penalty is nan, not a finite number."),
        ({"top_p": 1.1}, "top_p is 1.1, outside 0.0 to 1.0."),
        ({"top_k": -1}, "top_k is -1, outside 0 to"),
        ({"seed": 2**64}, "seed is"),
        ({"best_of": 2}, "best_of is 2: one answer per request is made."),
        ({"stop": [""]}, "a stop string has 0 characters"),
        ({"stop": ["x" * 1025]}, "a stop string has 1025 characters"),
        ({"stop": ["x"] * 65}, "stop has 65 strings, more than 64."),
        ({"stop": [1]}, "stop is [1], not a list of strings."),
        ({"return_perf_metrics": 1}, "return_perf_metrics is 1, not true or false."),
        ({"max_token": 1}, "unknown sampling parameter max_token. Did you mean max_tokens?"),
    ],
)
def test_a_wrong_value_is_refused_with_its_bounds(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(**values)
    assert message in str(caught.value)


def test_plain_data_reads_back() -> None:
    params = parse(temperature=0.5, top_k=3, stop=["a", "b"], seed=2**64 - 1, presence_penalty=1.0)
    assert SamplingParams.parse(params.to_dict(), max_tokens_limit=100) == params
