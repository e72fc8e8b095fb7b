from __future__ import annotations

from typing import Any

import pytest
import torch

from bwdeploy_runtime.engines.sampler import Sampler
from bwdeploy_runtime.sampling import SamplingParams

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0])


def draws(count: int = 400, logits: torch.Tensor = LOGITS, **sampling: Any) -> list[int]:
    sampler = Sampler(SamplingParams(**sampling))
    return [sampler.choose(logits)[0] for _ in range(count)]


def shares(tokens: list[int]) -> list[float]:
    return [tokens.count(token) / len(tokens) for token in range(4)]


def test_greedy_takes_the_most_likely() -> None:
    assert set(draws()) == set(draws(temperature=0.0)) == {1}


def test_sampling_follows_the_softmax() -> None:
    assert shares(draws(4000, temperature=1.0, seed=1)) == pytest.approx(LOGITS.softmax(0).tolist(), abs=0.03)


def test_temperature_flattens() -> None:
    expected = (LOGITS / 4).softmax(0).tolist()
    assert shares(draws(4000, temperature=4.0, seed=1)) == pytest.approx(expected, abs=0.03)


def test_top_k_keeps_the_best() -> None:
    assert set(draws(top_k=2, seed=1)) == {1, 2}


def test_top_k_beyond_the_vocabulary_keeps_all() -> None:
    assert set(draws(top_k=1000, seed=1)) == {0, 1, 2, 3}


def test_top_p_keeps_what_reaches_it() -> None:
    # softmax: 0.087, 0.644, 0.237, 0.032
    assert set(draws(top_p=0.64, seed=1)) == {1}
    assert set(draws(top_p=0.65, seed=1)) == {1, 2}
    assert set(draws(top_p=1.0, seed=1)) == {0, 1, 2, 3}


def test_a_seed_repeats_the_draws_and_another_does_not() -> None:
    assert draws(50, temperature=1.0, seed=7) == draws(50, temperature=1.0, seed=7)
    assert draws(50, temperature=1.0, seed=7) != draws(50, temperature=1.0, seed=8)
    assert draws(50, temperature=1.0) != draws(50, temperature=1.0)


def test_the_largest_seed_is_taken() -> None:
    assert len(draws(3, temperature=1.0, seed=2**64 - 1)) == 3


def test_presence_penalty_counts_once_and_frequency_each_time() -> None:
    # 3 beats 2 by one: a presence penalty of 1.5 turns it for good, then 2 is down too and 3 leads again.
    assert draws(4, presence_penalty=1.5) == [1, 2, 1, 1]
    assert draws(6, frequency_penalty=0.6) == [1, 1, 2, 1, 2, 1]


def test_the_log_probability_is_the_models_own() -> None:
    _, plain = Sampler(SamplingParams()).choose(LOGITS)
    _, penalized = Sampler(SamplingParams(temperature=0.1, top_k=1)).choose(LOGITS)
    assert plain == penalized == pytest.approx(float(LOGITS.log_softmax(0)[1]))
