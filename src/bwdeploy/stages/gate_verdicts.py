"""The gate's verdicts: each figure of the comparison that the recipe limits, with its interval, and in words.

The arithmetic is `accuracy.verdicts`; here stands which figure is held against which key of `gate`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.accuracy.verdicts import Judgement, judge_mean, judge_perplexity, judge_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bwdeploy.pipeline.training_jobs import AccuracyReport, TaskComparison, TextComparison
    from bwdeploy.recipe.schema import Gate, GateTask

_PERCENT = 100
_LARGEST_LIKELIHOOD = 700.0
"""Nats: exp of more is no number of a computer."""
_MANY_TIMES = 100
_LARGE = 1e6


class JudgedFigure(NamedTuple):
    """One figure held against its limit."""

    name: str
    unit: str
    """Of value, bounds and limit of the judgement."""
    key: str
    """The limit's place in the recipe."""
    change: str
    """What both models reached, for people; empty where there is only one figure."""
    judgement: Judgement


def verdicts_of(accuracy: AccuracyReport, gate: Gate) -> tuple[JudgedFigure, ...]:
    """Every limit of `gate` on the comparison, in the recipe's order."""
    of_text = _of_text(accuracy.text, gate) if accuracy.text is not None else ()
    of_tasks = (
        _of_task(task, wanted, number, gate.confidence)
        for number, (task, wanted) in enumerate(zip(accuracy.tasks, gate.tasks, strict=False))
    )
    return (*of_text, *of_tasks)


def broken_verdicts(accuracy: AccuracyReport, gate: Gate) -> Iterator[str]:
    """Each verdict that stops the build, in words."""
    for figure in verdicts_of(accuracy, gate):
        verdict = figure.judgement.verdict
        if verdict == "fail" or (verdict == "inconclusive" and gate.inconclusive == "fail"):
            yield verdict_line(figure)


def text_limits(gate: Gate) -> Iterator[str]:
    """The keys of the limits that need a comparison."""
    limits = {
        "max_perplexity_increase": gate.max_perplexity_increase,
        "max_kl_divergence": gate.max_kl_divergence,
        "min_top1_agreement": gate.min_top1_agreement,
        "tasks": gate.tasks or None,
    }
    yield from (f"gate.{key}" for key, limit in limits.items() if limit is not None)


def verdict_line(figure: JudgedFigure) -> str:
    """Verdict, value, interval and limit in one line; an inconclusive one with the samples it would take."""
    judged, shown = figure.judgement, _FORMS[figure.unit]
    value = "" if judged.value is None else f" {shown(judged.value)}{_SUFFIXES[figure.unit]}"
    if judged.low is None or judged.high is None:
        found = f"{value}; {judged.reason}" if value else f" {judged.reason}"
    else:
        found = (
            f"{value} ({shown(judged.low)} to {shown(judged.high)} with {_PERCENT * judged.confidence:g}%"
            f" one-sided confidence, {judged.samples:,} samples)"
        )
    most = "at least" if judged.higher_is_better else "at most"
    name = f"{figure.name} {figure.change}".rstrip()
    line = f"{judged.verdict}: {name}:{found}, {most} {shown(judged.limit)} allowed by {figure.key}"
    return f"{line}{_needed(judged)}" if judged.verdict == "inconclusive" and judged.low is not None else line


def perplexity_of(likelihoods: Sequence[float]) -> float:
    """Of sequences of one length, from the mean negative log-likelihood of each."""
    return math.exp(min(math.fsum(likelihoods) / len(likelihoods), _LARGEST_LIKELIHOOD))


def _of_text(text: TextComparison, gate: Gate) -> Iterator[JudgedFigure]:
    likelihoods, confidence = text.negative_log_likelihood, gate.confidence
    if gate.max_perplexity_increase is not None:
        before, after = perplexity_of(likelihoods.source), perplexity_of(likelihoods.checkpoint)
        judged = judge_perplexity(
            likelihoods.source,
            likelihoods.checkpoint,
            max_increase=gate.max_perplexity_increase,
            confidence=confidence,
        )
        change = f"{_perplexity(before)} → {_perplexity(after)}"
        yield JudgedFigure("perplexity", "relative", "gate.max_perplexity_increase", change, judged)
    if gate.max_kl_divergence is not None:
        judged = judge_mean(
            text.kl_divergence, limit=gate.max_kl_divergence, higher_is_better=False, confidence=confidence
        )
        yield JudgedFigure("KL divergence", "nats per token", "gate.max_kl_divergence", "", judged)
    if gate.min_top1_agreement is not None:
        judged = judge_mean(
            text.top1_agreement, limit=gate.min_top1_agreement, higher_is_better=True, confidence=confidence
        )
        yield JudgedFigure("top-1 agreement", "share", "gate.min_top1_agreement", "", judged)


def _of_task(task: TaskComparison, wanted: GateTask, number: int, confidence: float) -> JudgedFigure:
    scores = task.scores
    judged = judge_scores(
        scores.source,
        scores.checkpoint,
        margin=wanted.margin,
        higher_is_better=task.higher_is_better,
        confidence=confidence,
    )
    before, after = (
        _PERCENT * math.fsum(values) / len(values) for values in (scores.source, scores.checkpoint)
    )
    change = f"{before:.2f} → {after:.2f}"
    return JudgedFigure(
        f"{task.task} {task.metric}", "points", f"gate.tasks[{number}].margin", change, judged
    )


def _needed(judged: Judgement) -> str:
    if judged.samples_to_decide is None:
        return "; it lies on the limit, and no number of samples would tell"
    what = "pass" if judged.samples_to_pass is not None else "fail"
    return f"; about {judged.samples_to_decide:,} samples like these would make it {what}"


def _perplexity(value: float) -> str:
    return f"{value:.2f}" if value < _LARGE else f"{value:.3g}"


def _relative(value: float) -> str:
    return f"{value:+.2%}" if value < _MANY_TIMES else f"{value:+.3g} times"


_FORMS: dict[str, Callable[[float], str]] = {
    "relative": _relative,
    "share": "{:.2%}".format,
    "points": "{:+.2f}".format,
    "nats per token": "{:.4g}".format,
}
_SUFFIXES = {"relative": "", "share": "", "points": " points", "nats per token": " nats per token"}
