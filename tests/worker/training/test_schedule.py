from __future__ import annotations

import pytest

from bwdeploy.recipe.schema import Training
from bwdeploy.worker.training.schedule import batch_order, rate_factor

TRAINING = Training(samples=10, steps=6, batch_size=4, warmup_steps=2)


def test_order_after_a_step_is_the_rest_of_the_whole_order() -> None:
    whole = batch_order(TRAINING, after=0)
    assert len(whole) == 24
    assert batch_order(TRAINING, after=4) == whole[16:]


def test_every_pass_sees_every_sequence_once_in_another_order() -> None:
    order = batch_order(TRAINING, after=0)
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20]
    assert order != batch_order(TRAINING.model_copy(update={"seed": 1}), after=0)


def test_rate_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    factors = [rate_factor(TRAINING, done) for done in range(7)]
    assert factors[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert factors[2:] == sorted(factors[2:], reverse=True)
    assert factors[-1] == pytest.approx(0.1)


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert rate_factor(Training(warmup_steps=0), 0) == 1.0
