"""Noise is let pass, divergence is not."""

from __future__ import annotations

import math

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.worker.drafts.divergence import LossWatch


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_once(loss: float) -> None:
    watch = LossWatch()
    watch.check(10, 8.0, 1e-3)
    with pytest.raises(ToolError, match="at step 20"):
        watch.check(20, loss, 1e-3)


def test_a_loss_that_stays_far_above_its_start_stops() -> None:
    watch = LossWatch()
    watch.check(10, 8.0, 1e-3)
    for step in range(20, 60, 10):
        watch.check(step, 17.0, 1e-3)
    with pytest.raises(ToolError, match=r"17, more than twice the 8 it began with"):
        watch.check(60, 17.0, 1e-3)


def test_a_peak_that_passes_is_no_divergence() -> None:
    watch = LossWatch()
    for step, loss in enumerate([8.0, 30.0, 30.0, 30.0, 30.0, 7.0] * 3, 1):
        watch.check(step, loss, 1e-3)
