from __future__ import annotations

import pytest

from bwdeploy.facts.acceptance import acceptance_tables, published_acceptance
from bwdeploy.planner.speed.steps import StepModel, acceptance_lengths, best_draft_len, fit_steps, step_ms_of

R1_SPEED = {0: 111.0, 1: 198.0, 2: 250.0, 3: 253.0, 4: 245.0, 5: 239.0}
"""Published tokens a second of one user, DeepSeek-R1 on 8 B200."""
R1_STEPS = StepModel(8.95, 0.751)


def r1_lengths() -> dict[int, float]:
    table = published_acceptance("hf://deepseek-ai/DeepSeek-R1@abc", "mtp")
    assert table is not None
    return table.lengths


def worst_error(model: StepModel) -> float:
    return max(abs(model.tokens_per_s(k, length) / R1_SPEED[k] - 1) for k, length in r1_lengths().items())


def test_the_published_ladder_of_deepseek_r1_is_met_within_2_1_percent() -> None:
    assert worst_error(R1_STEPS) <= 0.0215
    assert best_draft_len(R1_STEPS, r1_lengths()) == 3


def test_two_timings_give_the_same_best_draft_length() -> None:
    model = fit_steps({k: step_ms_of(R1_SPEED[k], r1_lengths()[k]) for k in (0, 3)})
    assert model.base_ms == pytest.approx(9.01, abs=0.005)
    assert model.per_token_ms == pytest.approx(0.712, abs=0.001)
    assert worst_error(model) <= 0.029 + 0.0005
    assert best_draft_len(model, r1_lengths()) == 3


def test_more_timings_are_fitted_by_least_squares() -> None:
    model = fit_steps({k: step_ms_of(speed, r1_lengths()[k]) for k, speed in R1_SPEED.items()})
    assert worst_error(model) <= 0.03
    assert fit_steps({1: 3.0, 2: 5.0, 3: 7.0}) == pytest.approx((1.0, 2.0))


def test_one_timing_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two draft lengths"):
        fit_steps({3: 11.0})


def test_acceptance_length_grows_by_the_product_of_the_rates() -> None:
    assert acceptance_lengths([0.9, 0.5]) == pytest.approx({0: 1.0, 1: 1.9, 2: 2.35})
    assert acceptance_lengths([]) == {0: 1.0}


def test_a_draft_that_is_never_right_does_not_pay() -> None:
    assert best_draft_len(R1_STEPS, acceptance_lengths([0.0, 0.0, 0.0])) == 0


def test_of_two_equal_draft_lengths_the_shorter_is_best() -> None:
    assert best_draft_len(StepModel(10.0, 0.0), {1: 1.5, 2: 1.5}) == 1


def test_every_acceptance_table_grows_with_the_draft_length_and_names_its_source() -> None:
    for table in acceptance_tables():
        lengths = [table.lengths[k] for k in sorted(table.lengths)]
        assert lengths == sorted(lengths)
        assert lengths[0] == 1.0
        assert table.source
        assert table.workload


def test_a_table_belongs_to_its_model_and_method_only() -> None:
    assert published_acceptance("hf://deepseek-ai/DeepSeek-R1@x", "eagle3") is None
    assert published_acceptance("hf://org/other@x", "mtp") is None
    found = published_acceptance("hf://nvidia/Llama-4-Maverick-17B-128E-Instruct-FP8@x", "eagle3")
    assert found is not None
    assert found.lengths[3] == 2.94
