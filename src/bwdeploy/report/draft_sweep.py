"""Drafts of several widths side by side (`draft sweep`): what each accepts and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.report.draft_measurement import draft_share, figure_with_interval
from bwdeploy.report.drafts import choice_json
from bwdeploy.report.tables import aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.pipeline.training_jobs import DraftAcceptance, DraftTrainingResult, LengthAcceptance
    from bwdeploy.planner.speed.draft_choice import DraftChoice, DraftPoint

_COMPARED_AT = 3
"""Drafted tokens at which widths are compared, where that many were measured."""


class SweptDraft(NamedTuple):
    """One width."""

    ffn_width: int
    training: DraftTrainingResult
    measured: DraftAcceptance
    choice: DraftChoice

    @property
    def best(self) -> DraftPoint:
        """Its fastest draft length at the smallest batch size."""
        first = self.choice.first
        return next(one for one in first.points if one.draft_len == first.best_draft_len)

    @property
    def compared(self) -> LengthAcceptance:
        """Its acceptance at the length that widths are compared at."""
        return min(self.measured.overall, key=lambda one: abs(one.draft_len - _COMPARED_AT))


def fastest(drafts: Sequence[SweptDraft]) -> SweptDraft:
    """The width with the largest gain for one user; the narrower of two equal ones."""
    return max(drafts, key=lambda one: (one.best.speedup, -one.ffn_width))


def sweep_json(drafts: Sequence[SweptDraft]) -> dict[str, Any]:
    """The contract of `draft sweep --json`."""
    return {
        "ok": True,
        "best_ffn_width": fastest(drafts).ffn_width,
        "drafts": [
            {
                "ffn_width": one.ffn_width,
                "parameters": one.training.shape.parameters,
                "training_acceptance_length": one.training.acceptance_length,
                "training_seconds": round(sum(one.training.seconds.values()), 3),
                "draft_share_of_step": draft_share(one.measured, one.compared.draft_len),
                **choice_json(one.choice),
            }
            for one in drafts
        ],
    }


def sweep_text(drafts: Sequence[SweptDraft]) -> str:
    """A row for each width; the fastest is marked, and it is said when another one may be as fast."""
    best, compared = fastest(drafts), drafts[0].compared.draft_len
    gained, cost = f"gained, {compared} drafted", f"drafting {compared}"
    headings = ("width", "parameters", gained, cost, "best length", "speed-up")
    lines = aligned(headings, [_row(one, marked=one is best) for one in drafts])
    lines += ["", f"fastest for one user: width {best.ffn_width:,}, {best.best.speedup:.2f} times no drafts"]
    rivals = [f"{one.ffn_width:,}" for one in drafts if one is not best and _may_be_as_fast(one, best)]
    if rivals:
        lines.append(
            f"within the intervals of acceptance as fast: {', '.join(rivals)}; more prompts would tell"
        )
    return "\n".join(lines)


def _row(one: SweptDraft, *, marked: bool) -> tuple[str, ...]:
    share = draft_share(one.measured, one.compared.draft_len)
    return (
        f"{'→ ' if marked else ''}{one.ffn_width:,}",
        f"{one.training.shape.parameters:,}",
        figure_with_interval(one.compared.length),
        f"{share:.0%} of a step" if share is not None else "-",
        str(one.best.draft_len),
        f"{one.best.speedup:.2f}",
    )


def _may_be_as_fast(one: SweptDraft, best: SweptDraft) -> bool:
    """Speed goes with acceptance: whether the interval of one reaches into that of the best."""
    return _gain_at_end(one, "high") >= _gain_at_end(best, "low")


def _gain_at_end(one: SweptDraft, end: str) -> float:
    interval = next(
        (entry.length for entry in one.measured.overall if entry.draft_len == one.best.draft_len), None
    )
    if interval is None:  # no draft is its fastest length
        return one.best.speedup
    return one.best.speedup * float(getattr(interval, end)) / interval.value
