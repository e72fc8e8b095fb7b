"""From what was accepted in each step to the figures of a draft, with intervals.

The acceptance length of a set of prompts is all tokens gained over all steps: what a step brings on average,
which is what speed depends on. Its interval comes from resampling whole prompts (percentile bootstrap),
because the steps of one answer are alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bwdeploy.pipeline.training_jobs import Interval, LengthAcceptance, WorkloadAcceptance
from bwdeploy.worker.drafts.workloads import SECTION
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy.worker.drafts.pair import Acceptance

    Runs = Mapping[int, Sequence[Acceptance]]
    """Draft length → one for each prompt."""

_RESAMPLES = 2000
_TAIL = 0.025
_FEWEST_TOKENS = 32


def by_workload(
    workloads: Sequence[str], greedy: Runs, sampled: Runs, *, seed: int
) -> tuple[WorkloadAcceptance, ...]:
    """The figures of each workload; `workloads` names the one of each prompt.

    Raises:
        RecipeError: the answers of a workload are too short to tell anything.
    """
    return tuple(
        _workload(name, [i for i, other in enumerate(workloads) if other == name], greedy, sampled, seed)
        for name in dict.fromkeys(workloads)
    )


def lengths_of(greedy: Runs, sampled: Runs, *, seed: int) -> tuple[LengthAcceptance, ...]:
    """The figures of each draft length, over all prompts together."""
    return tuple(
        LengthAcceptance(
            draft_len=draft_len,
            length=acceptance_length(greedy[draft_len], seed=seed),
            sampled_length=acceptance_length(sampled[draft_len], seed=seed),
            per_position=per_position(greedy[draft_len], draft_len),
        )
        for draft_len in sorted(greedy)
    )


def acceptance_length(found: Sequence[Acceptance], *, seed: int) -> Interval:
    """Tokens gained in a step, with the two-sided 95 % interval."""
    gained = torch.tensor([one.gained for one in found], dtype=torch.float64)
    steps = torch.tensor([one.steps for one in found], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(found), (_RESAMPLES, len(found)), generator=generator)
    lengths = gained[chosen].sum(dim=1) / steps[chosen].sum(dim=1)
    low, high = torch.quantile(lengths, torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64)).tolist()
    return Interval(value=float(gained.sum() / steps.sum()), low=low, high=high)


def per_position(found: Sequence[Acceptance], draft_len: int) -> tuple[float, ...]:
    """Share of steps that accepted position 1, 2, … of those where it was asked; 0 where it never was.

    A position is asked where all before it were accepted and none of them ended the answer.
    """
    asked, taken = [0] * draft_len, [0] * draft_len
    for one in found:
        for accepted, gain in zip(one.accepted, one.gains, strict=True):
            last_asked = min(draft_len, accepted if gain == accepted else accepted + 1)
            for position in range(last_asked):
                asked[position] += 1
                taken[position] += position < accepted
    return tuple(hits / steps if steps else 0.0 for hits, steps in zip(taken, asked, strict=True))


def _workload(name: str, prompts: list[int], greedy: Runs, sampled: Runs, seed: int) -> WorkloadAcceptance:
    own = {length: [found[index] for index in prompts] for length, found in greedy.items()}
    drawn = {length: [found[index] for index in prompts] for length, found in sampled.items()}
    tokens = sum(one.gained for one in own[min(own)])
    if tokens < _FEWEST_TOKENS:
        raise recipe_error(
            f"{SECTION}.prompts",
            f"the model's answers to the {len(prompts)} prompts of workload {name!r} have {tokens} tokens "
            f"together, too few for an interval",
            hint="Give more prompts, or prompts with longer answers; check that its chat template is right.",
        )
    return WorkloadAcceptance(
        workload=name, prompts=len(prompts), tokens=tokens, lengths=lengths_of(own, drawn, seed=seed)
    )
