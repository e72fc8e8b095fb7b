"""A measured draft as text and as JSON: acceptance by workload, and the choice that follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.drafts import choice_json, choice_text
from bwdeploy.report.tables import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.pipeline.training_jobs import DraftAcceptance, Interval, SpeculativeRun, StepTiming
    from bwdeploy.planner.speed.draft_choice import DraftChoice

_NAMES = {"eagle3": "EAGLE3", "mtp": "multi-token prediction"}


def measured_json(
    measured: DraftAcceptance, choice: DraftChoice, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The contract of `draft measure --json` with a model: the choice, and the whole measurement.

    `arguments` are those of speculative_config, as the recipe's version of TensorRT-LLM spells them.
    `speed_lost_in_runs` is what the chosen length lacks of the fastest real run's speed.
    """
    best, lost = _fastest_run(measured), _lost_in_runs(measured, choice)
    return {
        **choice_json(choice),
        "best_draft_len_measured": best.draft_len if best is not None else None,
        "speed_lost_in_runs": round(lost, 6) if lost is not None else None,
        "draft_share_of_step": {
            str(one.batch_size): {
                str(draft_len): round(_share(one, draft_len), 6) for draft_len in sorted(one.step_ms)
            }
            for one in measured.timings
        },
        "speculative_config": dict(arguments),
        "measurement": measured.model_dump(mode="json"),
    }


def measured_text(measured: DraftAcceptance, choice: DraftChoice) -> str:
    """The measurement for a person, and the choice that follows from it."""
    prompts = sum(one.prompts for one in measured.workloads)
    seconds = sum(measured.seconds.values())
    place = f"{measured.device} ({measured.dtype})"
    lines = [
        f"{_NAMES[measured.method]} on {place}, {prompts:,} prompts, {seconds:,.0f} s",
        "",
        "tokens gained in a step, with 95 % intervals over prompts",
        *_acceptance_table(measured),
        "",
        choice_text(choice),
        *_measured_notes(measured, choice),
    ]
    return "\n".join(lines)


def figure_with_interval(interval: Interval) -> str:
    """For example `2.04 (1.93 to 2.15)`."""
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def draft_share(measured: DraftAcceptance, draft_len: int) -> float | None:
    """Time of drafting as a share of the target's step, at the smallest batch size that was timed."""
    if not measured.timings:
        return None
    return _share(min(measured.timings, key=lambda one: one.batch_size), draft_len)


def runs_lines(measured: DraftAcceptance, choice: DraftChoice) -> Iterator[str]:
    """What the real runs say beside the prediction; nothing where none was made."""
    best = _fastest_run(measured)
    if best is not None:
        gain = gains_in_runs(measured).get(best.draft_len)
        yield (
            f"real speculative decoding of one request was fastest with {best.draft_len} drafted tokens:"
            f" {best.tokens_per_s:,.0f} tokens/s{f', {gain:.2f} times plain decoding' if gain else ''}"
            f"{_prediction_words(measured, choice, best)}"
        )


def gains_in_runs(measured: DraftAcceptance) -> dict[int, float]:
    """Speed of the real runs of each length over those without drafts; empty where none was without."""
    speeds = {one.draft_len: one.tokens_per_s for one in measured.runs}
    return {length: speed / speeds[0] for length, speed in sorted(speeds.items())} if 0 in speeds else {}


def _acceptance_table(measured: DraftAcceptance) -> list[str]:
    names = [one.workload for one in measured.workloads]
    rows = [
        (
            str(one.draft_len),
            figure_with_interval(one.length),
            *(
                f"{by_length.value:.2f}" if by_length is not None else "-"
                for by_length in (_at(measured, name, one.draft_len) for name in names)
            ),
            figure_with_interval(one.sampled_length),
            f"{one.per_position[-1]:.0%}" if one.per_position else "-",
        )
        for one in measured.overall
    ]
    return aligned(("drafted", "greedy, all", *names, "sampled, all", "last position"), rows)


def _at(measured: DraftAcceptance, workload: str, draft_len: int) -> Interval | None:
    return next(
        (
            one.length
            for kind in measured.workloads
            if kind.workload == workload
            for one in kind.lengths
            if one.draft_len == draft_len
        ),
        None,
    )


def _measured_notes(measured: DraftAcceptance, choice: DraftChoice) -> Iterator[str]:
    for draft_len in sorted({3, choice.draft_len} - {0}):
        share = draft_share(measured, draft_len)
        if share is not None:
            yield f"drafting {draft_len} tokens takes {share:.0%} of a step of the model"
    if not measured.graphs and measured.device != "cpu":
        yield "note: no step could be captured as a CUDA graph, so times are those of separate launches"
    yield from runs_lines(measured, choice)
    if measured.greedy_differs:
        yield (
            f"note: {measured.greedy_differs:,} answers of greedy speculative decoding left those of plain"
            " greedy decoding, each first at a token that is about as likely"
        )


def _prediction_words(measured: DraftAcceptance, choice: DraftChoice, best: SpeculativeRun) -> str:
    """Whether the fastest run is the predicted one; nothing where no step of one request was timed."""
    if choice.first.batch_size != 1:
        return ""
    if best.draft_len == choice.draft_len:
        return " (as predicted)"
    lost = _lost_in_runs(measured, choice)
    slower = f", {lost:.1%} slower here" if lost is not None else ""
    return f" (predicted was {choice.draft_len}{slower})"


def _lost_in_runs(measured: DraftAcceptance, choice: DraftChoice) -> float | None:
    """Share of the fastest real run's speed that the chosen length lacks; None where it was not run."""
    best = _fastest_run(measured)
    chosen = next((one for one in measured.runs if one.draft_len == choice.draft_len), None)
    return None if best is None or chosen is None else 1 - chosen.tokens_per_s / best.tokens_per_s


def _share(timing: StepTiming, draft_len: int) -> float:
    return timing.draft_ms * draft_len / timing.target_ms


def _fastest_run(measured: DraftAcceptance) -> SpeculativeRun | None:
    """The fastest real run, of equal ones the shortest draft; None when none was made."""
    return max(measured.runs, key=lambda one: (one.tokens_per_s, -one.draft_len), default=None)
