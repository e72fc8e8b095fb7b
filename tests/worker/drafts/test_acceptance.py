from __future__ import annotations

import random

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.worker.drafts.acceptance import acceptance_length, by_workload, per_position
from bwdeploy.worker.drafts.pair import Acceptance


def took(*gains: int, accepted: tuple[int, ...] | None = None) -> Acceptance:
    return Acceptance(list(range(sum(gains))), accepted or tuple(gain - 1 for gain in gains), gains)


def test_length_is_all_tokens_over_all_steps() -> None:
    found = acceptance_length([took(4, 4), took(1, 1, 1, 1, 1, 1)], seed=0)
    assert found.value == pytest.approx(14 / 8)
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(4.0)


def test_interval_narrows_with_prompts_and_covers_the_value() -> None:
    few = acceptance_length([took(1, 2, 3), took(3, 3, 2), took(1, 1, 1), took(2, 2, 4)], seed=0)
    many = acceptance_length([took(1, 2, 3), took(3, 3, 2), took(1, 1, 1), took(2, 2, 4)] * 16, seed=0)
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_interval_of_the_same_seed_is_the_same() -> None:
    found = [took(1, 2, 3), took(3, 3, 2), took(1, 1), took(4)]
    assert acceptance_length(found, seed=5) == acceptance_length(found, seed=5)


def test_interval_covers_what_it_says() -> None:
    """About 95 of 100 samples of prompts have the true length (2.5) within their interval."""
    rng = random.Random(0)
    hits = 0
    for _ in range(100):
        prompts = [took(*(rng.choice((1, 2, 3, 4)) for _ in range(20))) for _ in range(30)]
        found = acceptance_length(prompts, seed=0)
        hits += found.low <= 2.5 <= found.high
    assert 86 <= hits <= 99


def test_positions_count_only_where_they_were_asked() -> None:
    # Accepted 3, 0 and 1 of 3 drafted; the last step ended with its second drafted token.
    found = [took(4, 1, 2), took(2, accepted=(2,))]
    assert per_position(found, 3) == pytest.approx((3 / 4, 2 / 3, 1.0))
    assert per_position([took(1, 1)], 2) == (0.0, 0.0)


def test_workloads_keep_their_own_figures() -> None:
    greedy = {1: [took(*[2] * 16), took(*[1] * 32), took(*[2] * 16), took(*[1] * 32)]}
    sampled = {1: [took(*[1] * 32)] * 4}
    code, chat = by_workload(["code", "chat", "code", "chat"], greedy, sampled, seed=0)
    assert (code.workload, code.prompts, code.tokens, code.lengths[0].length.value) == ("code", 2, 64, 2.0)
    assert (chat.workload, chat.lengths[0].length.value) == ("chat", 1.0)
    assert code.lengths[0].sampled_length.value == 1.0
    assert code.lengths[0].per_position == (1.0,)


def test_answers_that_end_at_once_are_too_little_data() -> None:
    runs = {1: [took(1)] * 4}
    with pytest.raises(RecipeError, match="have 4 tokens together, too few"):
        by_workload(["chat"] * 4, runs, runs, seed=0)
