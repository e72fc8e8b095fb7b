"""The draft length that pays: published ladders come out, and schedules fit their timings."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from bwdeploy.facts.acceptance import published_acceptance
from bwdeploy.planner.speed.draft_choice import BatchTimes, DraftChoice, choice_data, choose, choose_by
from bwdeploy.planner.speed.step_costs import StepCost, cost_at, step_cost, timed_cost
from bwdeploy.planner.speed.steps import StepModel, acceptance_lengths, fit_steps, step_ms_of

R1_LENGTHS = {1: 1.92, 2: 2.58, 3: 2.82, 4: 2.99, 5: 3.01}
R1_SPEED = {0: 111.0, 1: 198.0, 2: 250.0, 3: 253.0, 4: 245.0, 5: 239.0}
"""Published tokens a second of one user, DeepSeek-R1 on 8 B200."""
R1_SPEEDUP = [1.78, 2.25, 2.28, 2.21, 2.15]
R1_STEP_MS = {k: step_ms_of(speed, {0: 1.0, **R1_LENGTHS}[k]) for k, speed in R1_SPEED.items()}
MAVERICK = {1: 1.83, 2: 2.45, 3: 2.94, 4: 3.26, 5: 3.47, 6: 3.57, 7: 3.62}
LENGTHS = acceptance_lengths([0.8] * 6)
H100_LENGTHS = {1: 1.584881, 2: 1.898995, 3: 2.035088, 4: 2.136418, 5: 2.166667, 6: 2.177039}
"""SmolLM2-135M in NVFP4 with the EAGLE3 draft of its recipe, one request (benchmarks/README.md)."""
H100_STEP_MS = (3.49755, 3.89114, 4.18458, 4.26429, 4.54685, 4.59437, 4.80374)
H100_RUNS = (290.588, 408.075, 454.635, 479.213, 471.166, 471.016, 454.336)
"""Tokens a second of real speculative decoding in the same run."""


def steps(batch_size: int, t0: float, delta: float, *, longest: int = 6) -> BatchTimes:
    return BatchTimes(batch_size, {k: t0 + delta * k for k in range(longest + 1)})


def speeds(choice: DraftChoice) -> dict[int, float]:
    return {point.draft_len: point.tokens_per_s for point in choice.first.points}


def worst_error(choice: DraftChoice) -> float:
    return max(abs(speeds(choice)[k] / speed - 1) for k, speed in R1_SPEED.items())


def test_deepseek_r1_gets_three_tokens_from_its_published_constants() -> None:
    choice = choose_by(R1_LENGTHS, StepModel(8.95, 0.751))
    assert choice.draft_len == 3
    assert worst_error(choice) == pytest.approx(0.021, abs=0.0005)
    assert [point.speedup for point in choice.first.points[1:]] == pytest.approx(R1_SPEEDUP, rel=0.02)
    assert (choice.draft_len_schedule, choice.stops_paying_at) == ({1: 3}, None)


@pytest.mark.parametrize(
    ("timed", "error"),
    [((0, 3), 0.029), ((0, 5), 0.029), ((0, 1, 2, 3, 4, 5), 0.029), ((1, 2, 3, 4, 5), 0.029)],
)
def test_deepseek_r1_gets_three_tokens_from_its_timings(timed: tuple[int, ...], error: float) -> None:
    choice = choose(R1_LENGTHS, [BatchTimes(1, {k: R1_STEP_MS[k] for k in timed})])
    assert choice.draft_len == 3
    assert worst_error(choice) <= error + 0.0005
    assert choice.first.fit_error < 0.03


def test_two_timings_of_deepseek_r1_give_the_published_constants() -> None:
    model = choose(R1_LENGTHS, [BatchTimes(1, {k: R1_STEP_MS[k] for k in (0, 3)})]).first.cost.model
    assert model == pytest.approx((9.01, 0.712), abs=0.005)


@pytest.mark.parametrize(
    ("share", "best"),
    [
        (0.0, 7),
        (0.01, 7),
        (0.02, 6),
        (0.05, 5),
        (0.084, 5),
        (0.12, 4),
        (0.2, 3),
        (0.5, 2),
        (0.7, 1),
        (0.84, 0),
    ],
)
def test_maverick_drafts_shorter_the_more_a_drafted_token_costs(share: float, best: int) -> None:
    """Its published acceptance with δ as a share of t0; the best length from the definition, by hand."""
    by_hand = max(range(8), key=lambda k: ({0: 1.0, **MAVERICK}[k] / (1 + share * k), -k))
    assert by_hand == best
    assert choose_by(MAVERICK, StepModel(20.0, 20.0 * share)).draft_len == best


def test_published_tables_are_those_of_the_facts() -> None:
    r1 = published_acceptance("hf://deepseek-ai/DeepSeek-R1@abc", "mtp")
    maverick = published_acceptance("hf://meta-llama/Llama-4-Maverick@abc", "eagle3")
    assert r1 is not None
    assert maverick is not None
    assert r1.lengths == {0: 1.0, **R1_LENGTHS}
    assert maverick.lengths == {0: 1.0, **MAVERICK}


def test_the_schedule_switches_where_the_speeds_cross_between_measured_batches() -> None:
    timings = [steps(1, 10.0, 0.5), steps(64, 20.0, 20.0)]
    choice = choose(LENGTHS, timings)
    assert choice.draft_len == choice.draft_len_schedule[1] > 1
    assert list(choice.draft_len_schedule.values()) == sorted(
        choice.draft_len_schedule.values(), reverse=True
    )
    costs = {one.batch_size: step_cost(one.step_ms) for one in timings}
    for batch in range(1, 65):
        began = max(size for size in choice.draft_len_schedule if size <= batch)
        cost = cost_at(costs, batch)
        fastest = max(LENGTHS, key=lambda k: (LENGTHS[k] / cost.step_ms(k), -k))
        assert choice.draft_len_schedule[began] == fastest, batch


def test_the_batch_from_which_on_drafting_stops_paying_ends_the_schedule() -> None:
    choice = choose({1: 1.5, 2: 1.75}, [steps(1, 10.0, 1.0, longest=2), steps(101, 10.0, 11.0, longest=2)])
    # one drafted token pays while 1.5 / (10 + δ) > 1 / 10, δ < 5, and δ = 1 + (batch - 1) / 10
    assert choice.stops_paying_at == 41
    assert choice.draft_len_schedule[41] == 0
    assert list(choice.draft_len_schedule) == sorted(choice.draft_len_schedule)


def test_drafting_that_pays_everywhere_has_no_end() -> None:
    choice = choose(LENGTHS, [steps(1, 10.0, 0.5), steps(32, 11.0, 0.6)])
    assert choice.stops_paying_at is None
    assert 0 not in choice.draft_len_schedule.values()


def test_drafting_that_never_pays_is_said() -> None:
    choice = choose({1: 1.3, 2: 1.35}, [steps(1, 10.0, 5.0), steps(8, 10.0, 6.0)])
    assert (choice.draft_len, choice.draft_len_schedule, choice.stops_paying_at) == (0, {1: 0}, 1)


def test_a_schedule_starts_at_batch_one_though_the_smallest_measured_is_larger() -> None:
    assert next(iter(choose(LENGTHS, [steps(8, 10.0, 0.5), steps(4, 10.0, 0.5)]).draft_len_schedule)) == 1


def test_one_bad_timing_does_not_end_drafting_at_all_larger_batches() -> None:
    good = [steps(size, 10.0, 1.0) for size in (1, 4, 8, 16, 32)]
    length = choose(LENGTHS, good).draft_len
    disturbed = choose(LENGTHS, [*good, steps(2, 10.0, 12.0)])
    assert disturbed.first.best_draft_len == length
    assert disturbed.batches[1].best_draft_len == 0
    assert disturbed.draft_len_schedule[1] == length
    assert min(disturbed.draft_len_schedule.values()) >= length - 2


def test_the_best_length_of_one_user_is_kept_where_larger_batches_hardly_ask_for_another() -> None:
    """A flat optimum: noise lets three tokens be best at one request, four at the other batch sizes."""
    lengths = {1: 1.6, 2: 2.0, 3: 2.25, 4: 2.4}  # three and four are equal at δ = 0.8333
    slopes = {1: 0.84, 2: 0.82, 4: 0.82, 8: 0.82}
    choice = choose(lengths, [steps(size, 10.0, delta, longest=4) for size, delta in slopes.items()])
    assert [one.best_draft_len for one in choice.batches] == [3, 4, 4, 4]
    assert (choice.draft_len, choice.draft_len_schedule) == (3, {1: 3})


def test_a_bad_timing_of_one_request_does_not_end_drafting_at_all_batches() -> None:
    good = [steps(size, 10.0, 1.0) for size in (2, 4, 8, 16, 32)]
    disturbed = choose(LENGTHS, [steps(1, 10.0, 12.0), *good])
    assert disturbed.first.best_draft_len == 0
    assert min(disturbed.draft_len_schedule.values()) > 0


@pytest.mark.parametrize("seed", range(6))
def test_no_falling_schedule_is_much_better_over_the_measured_batches(seed: int) -> None:
    deltas = [((seed + 3) * (index + 2) * 7 % 11) / 2 for index in range(3)]
    timings = [steps(size, 10.0, delta, longest=3) for size, delta in zip((1, 2, 3), deltas, strict=True)]
    lengths = {1: 1.7, 2: 2.2, 3: 2.5}
    choice = choose(lengths, timings)

    def product(schedule: tuple[int, ...]) -> float:
        speed = 1.0
        for one, length in zip(choice.batches, schedule, strict=True):
            speed *= one.points[length].speedup
        return speed

    chosen = tuple(
        choice.draft_len_schedule[max(start for start in choice.draft_len_schedule if start <= size)]
        for size in (1, 2, 3)
    )
    falling = [one for one in itertools.product(range(4), repeat=3) if one[0] >= one[1] >= one[2]]
    # one percent of each of the three batches may go to the best length of the first
    assert product(chosen) >= max(product(one) for one in falling) * 0.97
    if chosen[0] != choice.first.best_draft_len:
        assert product(chosen) == pytest.approx(max(product(one) for one in falling))


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
    batches=st.dictionaries(
        st.integers(1, 300),
        st.dictionaries(st.integers(0, 6), st.floats(1.0, 50.0), min_size=2, max_size=6),
        min_size=1,
        max_size=5,
    ),
)
def test_every_schedule_starts_at_one_falls_and_says_where_it_ends(
    rates: list[float], batches: dict[int, dict[int, float]]
) -> None:
    try:
        choice = choose(acceptance_lengths(rates), list(itertools.starmap(BatchTimes, batches.items())))
    except ValueError:  # too steep for any line; see below
        reject()
    sizes, lengths = zip(*choice.draft_len_schedule.items(), strict=True)
    assert sizes[0] == 1
    assert lengths[0] == choice.draft_len
    assert all(before < after for before, after in itertools.pairwise(sizes))
    assert all(before > after for before, after in itertools.pairwise(lengths))
    assert choice.stops_paying_at == (sizes[-1] if lengths[-1] == 0 else None)
    assert max(sizes) <= max(batches)


def test_a_cost_of_drafting_itself_is_not_smeared_into_the_plain_step() -> None:
    cost = step_cost({0: 10.0, **{k: 15.0 + 0.5 * k for k in range(1, 9)}})
    assert cost.plain_ms == 10.0
    assert cost.model == pytest.approx((15.0, 0.5))
    choice = choose({1: 1.5, 2: 1.6}, [BatchTimes(1, {0: 10.0, 1: 15.5, 2: 16.0})])
    assert choice.draft_len == 0
    assert choice.first.fit_error == pytest.approx(0.0)


def test_drafted_steps_that_fall_by_noise_do_not_make_drafting_free() -> None:
    cost = step_cost({0: 20.0, 1: 26.0, 2: 25.0, 3: 25.5})
    assert cost.plain_ms == 20.0
    assert cost.model == fit_steps({0: 20.0, 1: 26.0, 2: 25.0, 3: 25.5})
    assert cost.model.per_token_ms > 0


def test_timings_that_fall_by_noise_are_taken_as_level() -> None:
    assert step_cost({0: 10.0, 4: 9.9}) == StepCost(StepModel(9.95, 0.0), 9.95)


def test_the_fit_error_is_the_worst_of_the_measured_steps() -> None:
    choice = choose({1: 1.5}, [BatchTimes(1, {0: 10.0, 1: 10.0, 2: 10.6})])
    model = choice.first.cost.model
    assert choice.first.fit_error == pytest.approx(
        max(abs(model.step_ms(k) / ms - 1) for k, ms in {0: 10.0, 1: 10.0, 2: 10.6}.items())
    )


def test_tokens_of_a_batch_are_those_of_all_its_requests() -> None:
    choice = choose({1: 2.0}, [BatchTimes(8, {0: 10.0, 1: 16.0})])
    assert speeds(choice) == pytest.approx({0: 800.0, 1: 1000.0})


def test_steps_timed_on_an_h100_name_the_length_that_real_runs_found_fastest() -> None:
    """A fifth token costs more than the fourth did: by the line, 4 % off, four drafted tokens would win."""
    timings = [BatchTimes(1, dict(enumerate(H100_STEP_MS)))]
    by_line, as_timed = choose(H100_LENGTHS, timings), choose(H100_LENGTHS, timings, timed_cost)
    fastest = max(range(len(H100_RUNS)), key=H100_RUNS.__getitem__)
    assert (by_line.draft_len, as_timed.draft_len, fastest) == (4, 3, 3)
    gains = [speed / H100_RUNS[0] for speed in H100_RUNS]
    assert [point.speedup for point in as_timed.first.points] == pytest.approx(gains, rel=0.025)
    assert as_timed.first.cost.model == by_line.first.cost.model
    assert as_timed.first.fit_error == by_line.first.fit_error > 0


def test_between_batch_sizes_timed_steps_are_taken_on_a_line_too() -> None:
    low, high = {0: 10.0, 1: 11.0, 2: 14.0}, {0: 12.0, 1: 13.0, 2: 20.0}
    between = cost_at({1: timed_cost(low), 3: timed_cost(high)}, 2)
    assert [between.step_ms(draft_len) for draft_len in range(3)] == [11.0, 12.0, 17.0]
    not_timed = (step_cost(low).step_ms(3) + step_cost(high).step_ms(3)) / 2
    assert between.step_ms(3) == pytest.approx(not_timed)


def test_what_gives_no_line_is_refused() -> None:
    with pytest.raises(ValueError, match="needs timings"):
        choose(LENGTHS, [])
    with pytest.raises(ValueError, match="two draft lengths"):
        choose(LENGTHS, [BatchTimes(1, {3: 10.0})])
    with pytest.raises(ValueError, match="0 drafted tokens would take -98 ms at batch size 4"):
        choose(LENGTHS, [BatchTimes(4, {1: 1.0, 2: 100.0})])


def test_the_choice_is_json_with_text_keys() -> None:
    data = choice_data(choose(LENGTHS, [steps(1, 10.0, 0.5), steps(64, 20.0, 20.0)]))
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again == data
    assert data.keys() >= {"draft_len", "speedup", "t0", "delta", "draft_len_schedule", "stops_paying_at"}
    assert data["draft_len_schedule"]["1"] == data["draft_len"]
    assert len(data["speedup"]) == 6
    assert (data["t0"], data["delta"]) == (10.0, 0.5)
    assert [batch["batch_size"] for batch in data["batches"]] == [1, 64]
