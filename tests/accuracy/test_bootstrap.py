"""Bounds of a mean: those of SciPy's BCa bootstrap, and as sure as they say."""

from __future__ import annotations

import random

import pytest

from bwdeploy.accuracy.bootstrap import mean_bounds


def skewed(count: int, *, seed: int = 3) -> tuple[float, ...]:
    draw = random.Random(seed)
    return tuple(draw.expovariate(1.0) for _ in range(count))


def test_bounds_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    numpy = pytest.importorskip("numpy")
    values = skewed(40)
    theirs = stats.bootstrap(
        (numpy.array(values),), numpy.mean, confidence_level=0.9, n_resamples=9_999, method="BCa",
        random_state=numpy.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    ours = mean_bounds(values, confidence=0.95)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    mean = sum(values) / len(values)
    assert ours.high - mean > 1.1 * (mean - ours.low)  # skewed to the right, as the values are


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 16, 64])
def test_bounds_hold_about_as_often_as_they_promise(count: int) -> None:
    held = 0
    for trial in range(300):
        held += mean_bounds(skewed(count, seed=trial), confidence=0.9, seed=trial).high > 1.0
    assert held / 300 > {8: 0.8, 16: 0.83, 64: 0.85}[count]
    assert held / 300 < 0.95


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
