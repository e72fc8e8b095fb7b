from __future__ import annotations

import math

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.training_jobs import TrainingPoint
from bwdeploy.worker.training.stopping import Divergence, best_step, out_of_patience


def points(*values: float | None) -> list[TrainingPoint]:
    return [TrainingPoint(step=10 * number, validation=value) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "best", "ended"),
    [
        ((5.0,), 0, False),
        ((5.0, 4.0, 4.5), 10, False),
        ((5.0, 4.0, 4.5, 4.2), 10, True),
        ((5.0, 4.0, 4.0, 4.0), 10, True),
        ((5.0, 4.0, None, 4.2), 10, False),
        ((5.0, 4.0, 4.5, 3.9), 30, False),
        ((5.0, 6.0, 7.0), 0, True),
    ],
)
def test_patience_ends_after_that_many_validations_without_a_better_one(
    values: tuple[float | None, ...], best: int, *, ended: bool
) -> None:
    assert best_step(points(*values)) == best
    assert out_of_patience(points(*values), 2) is ended


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_no_number_ends_the_training_with_what_to_do(loss: float) -> None:
    watch = Divergence("quantize.training")
    watch.check(1, 3.0, 1e-3)
    with pytest.raises(ToolError) as caught:
        watch.check(2, loss, 1e-3)
    message = str(caught.value)
    assert "diverged at step 2" in message
    assert "learning rate was 0.001" in message
    assert "Lower quantize.training.learning_rate" in caught.value.hint


def test_loss_far_above_its_start_ends_the_training_only_when_it_stays_there() -> None:
    watch = Divergence("quantize.training", start=3.0)
    for step in range(1, 20):
        watch.check(step, 9.0, 1e-3)
    watch.check(20, 4.0, 1e-3)
    for step in range(21, 40):
        watch.check(step, 9.0, 1e-3)
    with pytest.raises(ToolError, match="diverged at step 40"):
        watch.check(40, 9.0, 1e-3)


def test_divergence_that_starts_near_zero_may_rise_a_little() -> None:
    watch = Divergence("quantize.training", start=0.01)
    for step in range(1, 100):
        watch.check(step, 0.5, 1e-3)
