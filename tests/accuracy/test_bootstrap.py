"""Bounds of a mean: those of SciPy's BCa bootstrap, and as sure as they say."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bwdeploy.accuracy.bootstrap import mean_bounds


def skewed(count: int, *, seed: int = 3) -> tuple[float, ...]:
    draw = random.Random(seed)
    return tuple(draw.expovariate(1.0) for _ in range(count))


def test_bounds_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    numpy = pytest.importorskip("numpy")
    values = skewed(40)
    # Student's quantile for 40 values at 0.95, as one of the normal distribution
    widened = float(stats.norm.cdf((40 / 39) ** 0.5 * stats.t.ppf(0.95, 39)))
    theirs = stats.bootstrap(
        (numpy.array(values),), numpy.mean, confidence_level=2 * widened - 1, n_resamples=9_999, method="BCa",
        random_state=numpy.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    ours = mean_bounds(values, confidence=0.95)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    mean = sum(values) / len(values)
    assert ours.high - mean > 1.1 * (mean - ours.low)  # skewed to the right, as the values are


def shares_held(draw: Callable[[random.Random], float], mean: float, count: int) -> tuple[float, float]:
    """How often 300 lower and upper bounds at 0.95 hold."""
    kept = [0, 0]
    for trial in range(300):
        generator = random.Random(trial)
        low, high = mean_bounds(tuple(draw(generator) for _ in range(count)), confidence=0.95, seed=trial)
        kept[0] += low <= mean
        kept[1] += high >= mean
    return kept[0] / 300, kept[1] / 300


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 16])
def test_bounds_hold_as_often_as_they_promise(count: int) -> None:
    for share in shares_held(lambda one: one.gauss(0.0, 1.0), 0.0, count):
        assert 0.92 < share < 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("count", "least"), [(8, 0.86), (16, 0.9)])
def test_bounds_of_skewed_samples_hold_nearly_as_often(count: int, least: float) -> None:
    low, high = shares_held(lambda one: one.expovariate(1.0), 1.0, count)
    assert low > 0.93
    assert least < high < 0.98


def test_few_samples_widen_the_bounds_as_student_does() -> None:
    values = tuple(float(index) for index in range(-8, 8))
    error = (sum((one + 0.5) ** 2 for one in values) / 15 / 16) ** 0.5
    low, high = mean_bounds(values, confidence=0.95)
    assert (high - low) / 2 == pytest.approx(
        1.753 * error, rel=0.02
    )  # Student's t with 15 degrees of freedom


def test_many_samples_take_fewer_resamples_and_no_more_time() -> None:
    few, many = (mean_bounds(skewed(count), confidence=0.95) for count in (100, 1_600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.35)


def test_values_without_spread_have_themselves_as_bounds() -> None:
    assert mean_bounds((0.1,) * 7, confidence=0.95) == (0.1, 0.1)


def test_the_tiniest_spread_is_a_spread() -> None:
    low, high = mean_bounds((0.0, 1e-200, 2e-200, 3e-200), confidence=0.9)
    assert 0.0 <= low < high <= 3e-200


def test_bounds_need_values_and_a_confidence() -> None:
    with pytest.raises(ValueError, match="values"):
        mean_bounds((), confidence=0.95)
    with pytest.raises(ValueError, match="confidence"):
        mean_bounds((1.0, 2.0), confidence=0.5)
