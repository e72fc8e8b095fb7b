"""Three verdicts about a checkpoint beside its source: pass, fail, inconclusive.

A figure passes when its one-sided confidence bound keeps the limit, fails when the opposite bound breaks it,
and is inconclusive between: then the number of samples that it would take is said. Samples are paired, so
what both models find hard does not widen the interval. Limits are the recipe's; nothing here reads files.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, NamedTuple

from bwdeploy.accuracy.bootstrap import mean_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Verdict = Literal["pass", "fail", "inconclusive"]

LEAST_SAMPLES = 8
"""Fewer say too little about their own spread for an interval to mean anything."""
_POINTS = 100
_MOST_DEVIATIONS = 1e6
"""A figure closer to its limit than a millionth of a sample's spread lies on it: no test is that long."""
_UNSEEN = (-1.0, -1.0, 1.0, 1.0)
"""Answers of paired questions that could have been among the samples."""
_LARGEST_EXPONENT = 700.0
"""exp of more is no number of a computer."""


class Judgement(NamedTuple):
    """One figure, held against its limit."""

    verdict: Verdict
    value: float | None
    """As measured; None when samples have no finite value."""
    low: float | None
    """Lower bound, with one-sided `confidence`; None without an interval."""
    high: float | None
    """Upper bound, likewise."""
    limit: float
    higher_is_better: bool
    confidence: float
    samples: int
    samples_to_pass: int | None
    """So many would be enough if the figure stayed as it is; None when it breaks the limit by itself."""
    samples_to_decide: int | None
    """The same for whichever verdict the figure points to; None when it lies on the limit."""
    reason: str
    """In a sentence, for people."""


def judge_perplexity(
    source: Sequence[float],
    checkpoint: Sequence[float],
    *,
    max_increase: float,
    confidence: float = 0.95,
    seed: int = 0,
) -> Judgement:
    """The relative increase of perplexity, exp(mean(checkpoint - source)) - 1, against `max_increase`.

    Args:
        source: Mean negative log-likelihood of a token, in nats, for each sequence; all of the same length.
        checkpoint: The same of the checkpoint, in the same order.
        max_increase: 0.03 allows 1.03 times the source's perplexity.
        confidence: One-sided.
        seed: Of the resampling.

    Raises:
        ValueError: sequences that are not paired.
    """
    differences = _paired(source, checkpoint)
    question = _Question(math.log1p(max_increase), False, confidence, lambda one: math.expm1(_possible(one)))
    return _without_values(question, source, checkpoint) or _judged(question, differences, seed)


def judge_mean(
    values: Sequence[float],
    *,
    limit: float,
    higher_is_better: bool,
    confidence: float = 0.95,
    seed: int = 0,
) -> Judgement:
    """The mean of one figure for each sample (a divergence, an agreement) against a limit.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("a mean needs values")
    question = _Question(limit, higher_is_better, confidence, _same)
    return _without_values(question, (), values) or _judged(question, tuple(values), seed)


def judge_scores(
    source: Sequence[float],
    checkpoint: Sequence[float],
    *,
    margin: float,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    seed: int = 0,
) -> Judgement:
    """Non-inferiority of scores from 0 to 1 for each question; all figures in points of 100.

    Resampling alone would be sure of itself where both models give the same few answers: it has not seen a
    question that they answer differently. So two questions lost and two won are added to those that it draws
    from, as A. Agresti and B. Coull do for one proportion ("Approximate is Better than 'Exact' for Interval
    Estimation of Binomial Proportions", The American Statistician 52, 1998). With fewer, a checkpoint that
    only loses would pass far more often than `confidence` says.

    Args:
        source: Score of each question.
        checkpoint: The same of the checkpoint, in the same order.
        margin: Points that the checkpoint may be worse.
        higher_is_better: Of the score.
        confidence: One-sided.
        seed: Of the resampling.

    Raises:
        ValueError: scores that are not paired.
    """
    differences = _paired(source, checkpoint)
    limit = (-margin if higher_is_better else margin) / _POINTS
    question = _Question(limit, higher_is_better, confidence, lambda one: one * _POINTS)
    without = _without_values(question, source, checkpoint)
    return without or _judged(question, differences, seed, unseen=_UNSEEN)


def judge_discordant(
    change: float,
    *,
    samples: int,
    margin: float = 1.5,
    discordant: float = 0.05,
    confidence: float = 0.95,
) -> Judgement:
    """Non-inferiority of a published change of a score, without the answers behind it.

    With a share d of questions that the models answer differently the standard error of the change is
    100 · √(d / n) points, and n = d · (100 · z / (margin - loss))² questions are enough to pass.

    Args:
        change: In points of 100; negative is worse.
        samples: Questions.
        margin: Points that may be lost.
        discordant: Share of questions with different answers.
        confidence: One-sided.

    Raises:
        ValueError: no samples.
    """
    if samples < 1:
        raise ValueError("a change needs samples")
    question = _Question(-margin, True, confidence, _same)
    deviation = _POINTS * math.sqrt(discordant)
    half = normal_quantile(confidence) * deviation / math.sqrt(samples)
    return _decided(question, change, (change - half, change + half), samples, _Spread(deviation))


def normal_quantile(confidence: float) -> float:
    """The standard normal distribution's z, to three decimals as tables have it: 1.645 at 0.95."""
    return round(NormalDist().inv_cdf(confidence), 3)


class _Question(NamedTuple):
    """What a figure is held against, on the scale that its samples are averaged on."""

    limit: float
    higher_is_better: bool
    confidence: float
    shown: Callable[[float], float]
    """From that scale to the one of the recipe."""


class _Spread(NamedTuple):
    """How far samples lie apart, on the scale that they are averaged on."""

    deviation: float
    """Of one sample."""
    unseen: float = 0.0
    """Squares of what was added to the samples, however many there are."""


def _judged(
    question: _Question, values: tuple[float, ...], seed: int, *, unseen: tuple[float, ...] = ()
) -> Judgement:
    """The verdict on the mean of `values`; the interval counts samples that could have been there too."""
    mean = math.fsum(values) / len(values)
    if len(values) < LEAST_SAMPLES:
        return _too_few(question, mean, len(values))
    drawn = values + unseen
    bounds = mean_bounds(drawn, confidence=question.confidence, seed=seed)
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1))
    spread = _Spread(deviation, math.fsum(one * one for one in unseen))
    return _decided(question, mean, (min(bounds.low, mean), max(bounds.high, mean)), len(values), spread)


def _decided(
    question: _Question, value: float, bounds: tuple[float, float], samples: int, spread: _Spread
) -> Judgement:
    """The verdict of a figure with its bounds."""
    better, worse = bounds[::-1] if question.higher_is_better else bounds
    sign = 1 if question.higher_is_better else -1
    room = sign * (value - question.limit)
    verdict: Verdict = "inconclusive"
    if sign * (worse - question.limit) >= 0:
        verdict = "pass"
    elif sign * (better - question.limit) < 0:
        verdict = "fail"
    needed = _samples_for(room, spread, question.confidence, samples, decided=verdict != "inconclusive")
    judgement = Judgement(
        verdict=verdict,
        value=question.shown(value),
        low=question.shown(bounds[0]),
        high=question.shown(bounds[1]),
        limit=question.shown(question.limit),
        higher_is_better=question.higher_is_better,
        confidence=question.confidence,
        samples=samples,
        samples_to_pass=needed if room > 0 or verdict == "pass" else None,
        samples_to_decide=needed,
        reason="",
    )
    return judgement._replace(reason=_reason(judgement))


def _samples_for(
    room: float, spread: _Spread, confidence: float, samples: int, *, decided: bool
) -> int | None:
    """How many samples tell a figure from a limit that is `room` away, by the normal approximation.

    The least n with n · |room| ≥ z · √(n · deviation² + unseen). Where the samples at hand do not decide,
    resampling has seen more than the approximation knows: more than they are needed in any case.
    """
    if abs(room) * _MOST_DEVIATIONS <= max(spread.deviation, math.sqrt(spread.unseen)):
        return samples if decided else None
    seen, unseen = (
        (normal_quantile(confidence) / room) ** 2 * one for one in (spread.deviation**2, spread.unseen)
    )
    needed = math.ceil((seen + math.sqrt(seen**2 + 4 * unseen)) / 2)
    return max(needed, LEAST_SAMPLES, 0 if decided else samples + 1)


def _reason(judgement: Judgement) -> str:
    low, high, limit = (f"{one:.4g}" for one in (judgement.low, judgement.high, judgement.limit))
    sure = f"with {judgement.confidence:.4g} confidence"
    least, most = (f"at least {low}", f"at most {high}")
    if judgement.verdict == "pass":
        return f"{least if judgement.higher_is_better else most} {sure}, which keeps the limit of {limit}"
    if judgement.verdict == "fail":
        return f"{most if judgement.higher_is_better else least} {sure}, which breaks the limit of {limit}"
    between = (
        f"the limit of {limit} lies between the bounds {low} and {high} of {judgement.samples:,} samples"
    )
    if judgement.samples_to_decide is None:
        return f"{between}, and the figure on the limit: no number of samples would tell"
    return f"{between}; about {judgement.samples_to_decide:,} would tell"


def _without_values(
    question: _Question, source: Sequence[float], checkpoint: Sequence[float]
) -> Judgement | None:
    """The verdict on samples of which some are no finite numbers; None when all are."""
    source_bad = sum(not math.isfinite(one) for one in source)
    bad = sum(not math.isfinite(one) for one in checkpoint)
    if not source_bad and not bad:
        return None
    who, count = ("source", source_bad) if source_bad else ("checkpoint", bad)
    return _no_interval(
        question,
        "inconclusive" if source_bad else "fail",
        len(checkpoint),
        f"the {who} gives no finite figure for {count:,} of {len(checkpoint):,} samples",
    )


def _too_few(question: _Question, value: float, samples: int) -> Judgement:
    reason = f"{samples} samples are too few for an interval: take at least {LEAST_SAMPLES}"
    judgement = _no_interval(question, "inconclusive", samples, reason)
    return judgement._replace(value=question.shown(value), samples_to_decide=LEAST_SAMPLES)


def _no_interval(question: _Question, verdict: Verdict, samples: int, reason: str) -> Judgement:
    return Judgement(
        verdict=verdict,
        value=None,
        low=None,
        high=None,
        limit=question.shown(question.limit),
        higher_is_better=question.higher_is_better,
        confidence=question.confidence,
        samples=samples,
        samples_to_pass=None,
        samples_to_decide=None,
        reason=reason,
    )


def _paired(source: Sequence[float], checkpoint: Sequence[float]) -> tuple[float, ...]:
    """What each sample lost or won."""
    if len(source) != len(checkpoint) or not source:
        raise ValueError(f"{len(source)} and {len(checkpoint)} values are no pairs")
    return tuple(after - before for before, after in zip(source, checkpoint, strict=True))


def _possible(exponent: float) -> float:
    return min(exponent, _LARGEST_EXPONENT)


def _same(value: float) -> float:
    return value
