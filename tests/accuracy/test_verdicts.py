"""Verdicts: the published examples come out exactly, and samples are judged as their spread allows."""

from __future__ import annotations

import math
import random

import pytest

from bwdeploy.accuracy.verdicts import (
    LEAST_SAMPLES,
    Judgement,
    judge_discordant,
    judge_mean,
    judge_perplexity,
    judge_scores,
    normal_quantile,
)


def answers(questions: int, *, lost: int, won: int, right: float = 0.8) -> tuple[list[float], list[float]]:
    """Scores of two models that answer alike but for so many questions."""
    both = questions - lost - won
    source = [1.0] * lost + [0.0] * won + [1.0] * round(both * right) + [0.0] * (both - round(both * right))
    checkpoint = [0.0] * lost + [1.0] * won + source[lost + won :]
    return source, checkpoint


def losses(count: int, *, worse: float, spread: float, seed: int = 1) -> tuple[list[float], list[float]]:
    """Losses of sequences that differ far more among each other than the models do."""
    draw = random.Random(seed)
    source = [draw.gauss(3.0, 0.5) for _ in range(count)]
    return source, [one + draw.gauss(worse, spread) for one in source]


@pytest.mark.parametrize(
    ("change", "samples", "error", "verdict", "to_pass"),
    [
        pytest.param(-0.1, 14_042, 0.19, "pass", 691, id="DeepSeek-R1 FP4, MMLU"),
        pytest.param(-0.2, 1_319, 0.62, "pass", 801, id="DeepSeek-R1 FP4, GSM8K"),
        pytest.param(-1.2, 500, 1.00, "inconclusive", 15_034, id="DeepSeek-R1 FP4, MATH-500"),
        pytest.param(-0.5, 198, 1.59, "inconclusive", 1_354, id="DeepSeek-R1 FP4, GPQA-D"),
        pytest.param(0.0, 30, 4.08, "inconclusive", 602, id="DeepSeek-R1 FP4, AIME 2024"),
        pytest.param(-55.0, 1_319, 0.62, "fail", None, id="Qwen3.5 NVFP4, GSM8K"),
        pytest.param(-5.46, 1_319, 0.62, "fail", None, id="Qwen3-VL-8B NVFP4, GSM8K"),
    ],
)
def test_published_accuracy_tables_get_their_verdicts(
    change: float, samples: int, error: float, verdict: str, to_pass: int | None
) -> None:
    judged = judge_discordant(change, samples=samples)
    assert (judged.verdict, judged.samples_to_pass) == (verdict, to_pass)
    assert judged.low is not None
    assert (change - judged.low) / normal_quantile(0.95) == pytest.approx(error, abs=0.005)


def test_aime_moving_by_six_points_on_thirty_problems_is_noise() -> None:
    gain = judge_discordant(6.0, samples=30)
    assert gain.low is not None
    assert gain.low < 0
    assert judge_discordant(-6.0, samples=30).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("questions", "lost", "won", "verdict"),
    [
        pytest.param(1_319, 34, 32, "pass", id="GSM8K"),
        pytest.param(500, 16, 10, "inconclusive", id="MATH-500"),
        pytest.param(198, 6, 5, "inconclusive", id="GPQA-D"),
        pytest.param(30, 1, 1, "inconclusive", id="AIME"),
        pytest.param(1_319, 740, 14, "fail", id="a broken export"),
    ],
)
def test_answers_like_the_published_ones_get_the_same_verdicts(
    questions: int, lost: int, won: int, verdict: str
) -> None:
    judged = judge_scores(*answers(questions, lost=lost, won=won), margin=1.5)
    assert judged.verdict == verdict
    assert judged.value == pytest.approx(100 * (won - lost) / questions)


def test_the_same_few_answers_prove_nothing() -> None:
    judged = judge_scores(*answers(30, lost=0, won=0), margin=1.5)
    assert judged.verdict == "inconclusive"
    needed = judged.samples_to_pass
    assert needed is not None
    assert needed > 3 / 0.015  # the rule of three: so many alike leave 1.5 points that may still be lost
    assert judge_scores(*answers(needed, lost=0, won=0), margin=1.5).verdict == "pass"
    assert judge_scores(*answers(needed * 3 // 4, lost=0, won=0), margin=1.5).verdict == "inconclusive"


@pytest.mark.parametrize(
    "questions", [133, pytest.param(270, marks=pytest.mark.slow), pytest.param(410, marks=pytest.mark.slow)]
)
def test_a_checkpoint_that_only_loses_passes_no_more_often_than_the_confidence_says(questions: int) -> None:
    loss = 0.015
    passed = sum(
        math.comb(questions, lost) * loss**lost * (1 - loss) ** (questions - lost)
        for lost in range(5)
        if judge_scores(*answers(questions, lost=lost, won=0), margin=100 * loss).verdict == "pass"
    )
    assert passed < 0.06


def test_answers_that_differ_need_about_as_many_questions_as_the_published_rule_says() -> None:
    judged = judge_scores(*answers(200, lost=5, won=5), margin=1.5)
    rule = judge_discordant(0.0, samples=200, margin=1.5).samples_to_pass
    assert judged.samples_to_pass == pytest.approx(rule, rel=0.15)


def test_a_lower_score_may_be_the_better_one() -> None:
    source, checkpoint = answers(400, lost=40, won=2)
    assert judge_scores(source, checkpoint, margin=1.5).verdict == "fail"
    assert judge_scores(source, checkpoint, margin=1.5, higher_is_better=False).verdict == "pass"
    assert judge_scores(checkpoint, source, margin=1.5, higher_is_better=False).verdict == "fail"


def test_perplexity_is_judged_by_its_ratio() -> None:
    judged = judge_perplexity(*losses(200, worse=0.02, spread=0.02), max_increase=0.05)
    assert judged.verdict == "pass"
    assert judged.value == pytest.approx(math.exp(0.02) - 1, abs=0.005)
    assert None not in {judged.low, judged.value, judged.high}
    assert sorted([0.05, judged.high or 0, judged.value or 0, judged.low or 0]) == [
        judged.low, judged.value, judged.high, 0.05,
    ]  # fmt: skip
    assert judge_perplexity(*losses(200, worse=0.1, spread=0.02), max_increase=0.05).verdict == "fail"


def test_pairing_is_what_makes_sixteen_sequences_enough() -> None:
    source, checkpoint = losses(16, worse=0.01, spread=0.01)
    assert judge_perplexity(source, checkpoint, max_increase=0.05).verdict == "pass"
    assert judge_perplexity(source, checkpoint[::-1], max_increase=0.05).verdict == "inconclusive"


def test_as_many_samples_as_were_asked_for_decide() -> None:
    judged = judge_perplexity(*losses(20, worse=0.02, spread=0.1), max_increase=0.04)
    assert judged.verdict == "inconclusive"
    assert judged.samples_to_decide is not None
    enough = losses(2 * judged.samples_to_decide, worse=0.02, spread=0.1, seed=2)
    assert judge_perplexity(*enough, max_increase=0.04).verdict == "pass"
    assert f"about {judged.samples_to_decide:,} would tell" in judged.reason


def test_a_figure_beyond_the_limit_says_how_many_samples_would_prove_it() -> None:
    judged = judge_mean([0.0, 0.3] * 8, limit=0.14, higher_is_better=False)
    assert (judged.verdict, judged.samples_to_pass) == ("inconclusive", None)
    assert judged.samples_to_decide is not None
    assert (
        judge_mean([0.0, 0.3] * judged.samples_to_decide, limit=0.14, higher_is_better=False).verdict
        == "fail"
    )


def test_agreement_and_divergence_are_held_against_levels() -> None:
    agreement = [0.9 + 0.002 * (index % 10) for index in range(40)]
    assert judge_mean(agreement, limit=0.85, higher_is_better=True).verdict == "pass"
    assert judge_mean(agreement, limit=0.95, higher_is_better=True).verdict == "fail"
    assert judge_mean(agreement, limit=0.95, higher_is_better=False).verdict == "pass"


def test_equal_models_keep_every_limit() -> None:
    values = [2.0 + index for index in range(10)]
    judged = judge_perplexity(values, values, max_increase=0.0)
    assert (judged.verdict, judged.value, judged.low, judged.high) == ("pass", 0.0, 0.0, 0.0)
    assert judge_mean([1.0] * 10, limit=1.0, higher_is_better=True).verdict == "pass"


@pytest.mark.parametrize("count", [1, LEAST_SAMPLES - 1])
def test_too_few_samples_are_inconclusive_and_say_so(count: int) -> None:
    judged = judge_mean([9.0] * count, limit=0.1, higher_is_better=False)
    assert (judged.verdict, judged.value, judged.low) == ("inconclusive", 9.0, None)
    assert judged.samples_to_decide == LEAST_SAMPLES
    assert "too few" in judged.reason


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_checkpoint_without_finite_figures_fails(broken: float) -> None:
    source, checkpoint = losses(20, worse=0.0, spread=0.01)
    judged = judge_perplexity(source, [*checkpoint[:-1], broken], max_increase=0.5)
    assert (judged.verdict, judged.value) == ("fail", None)
    assert "1 of 20" in judged.reason
    assert judge_mean([broken] * 20, limit=0.5, higher_is_better=True).verdict == "fail"


def test_a_source_without_finite_figures_proves_nothing() -> None:
    source, checkpoint = losses(20, worse=0.0, spread=0.01)
    judged = judge_perplexity([math.nan, *source[1:]], checkpoint, max_increase=0.5)
    assert (judged.verdict, "source" in judged.reason) == ("inconclusive", True)


def test_a_destroyed_model_has_a_figure_all_the_same() -> None:
    judged = judge_perplexity([3.0] * 10, [5_000.0 + index for index in range(10)], max_increase=0.1)
    assert judged.verdict == "fail"
    assert judged.value is not None
    assert math.isfinite(judged.value)


def test_the_same_samples_get_the_same_bounds() -> None:
    pair = losses(20, worse=0.02, spread=0.1)
    first, again, other = (judge_perplexity(*pair, max_increase=0.04, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first.low != other.low


def test_more_confidence_needs_more_samples() -> None:
    pair = losses(60, worse=0.02, spread=0.06)
    plain, surer = (judge_perplexity(*pair, max_increase=0.05, confidence=one) for one in (0.9, 0.999))
    assert width(plain) < width(surer)
    assert plain.samples_to_pass is not None
    assert surer.samples_to_pass is not None
    assert plain.samples_to_pass < surer.samples_to_pass


def test_values_that_are_no_pairs_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        judge_scores([1.0], [1.0, 0.0], margin=1.0)
    with pytest.raises(ValueError, match="no pairs"):
        judge_perplexity([], [], max_increase=0.1)
    with pytest.raises(ValueError, match="needs values"):
        judge_mean([], limit=1.0, higher_is_better=True)
    with pytest.raises(ValueError, match="needs samples"):
        judge_discordant(0.0, samples=0)


def width(judged: Judgement) -> float:
    assert judged.low is not None
    assert judged.high is not None
    return judged.high - judged.low
