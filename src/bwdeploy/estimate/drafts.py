"""What drafts do to the speed: acceptance from the caller or a published table, times from the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.estimate.figures import Drafts, EstimateRequest
from bwdeploy.facts.acceptance import published_acceptance
from bwdeploy.planner.memory.settings import drafting
from bwdeploy.planner.speed.roofline import step_time
from bwdeploy.planner.speed.steps import DEAD_DRAFT, StepModel, acceptance_lengths, best_draft_len

if TYPE_CHECKING:
    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.planner.speed.roofline import Load
    from bwdeploy.planner.speed.work import Work
    from bwdeploy.recipe.schema import Layout, Recipe

_OWN_ONLY = 2
"""Lengths that are known when only the recipe's own is: none and it."""


def drafts_of(
    recipe: Recipe, request: EstimateRequest, work: Work, gpu: Gpu, load: Load
) -> tuple[Drafts | None, tuple[str, ...]]:
    """The effect of drafts, None without drafts or when their acceptance is not known."""
    draft = drafting(recipe)
    if draft is None:
        return None, ()
    lengths, source = _acceptance(recipe, request, draft.method, draft.length)
    length = lengths.get(draft.length)
    if length is None:
        note = f"drafts are left out: nothing is published about the acceptance of {draft.length} tokens of"
        return None, (f"{note} {draft.method} with this model; give --acceptance",)
    model = _step_model(work, gpu, recipe.layout, load._replace(concurrency=1), draft.length)
    drafts = Drafts(
        method=draft.method,
        draft_len=draft.length,
        acceptance_length=length,
        source=source,
        gain_alone=_gain(model, draft.length, length),
        best_draft_len=best_draft_len(model, lengths) if len(lengths) > _OWN_ONLY else None,
    )
    return drafts, _draft_notes(drafts)


def _draft_notes(drafts: Drafts) -> tuple[str, ...]:
    if drafts.acceptance_length < DEAD_DRAFT:
        note = (
            f"an acceptance length of {drafts.acceptance_length:g} says that the draft does not fit: look at"
            " its revision, tokenizer, chat template and hidden state layers"
        )
        return (note,)
    notes = ["the bands do not cover how many drafted tokens your own text accepts"]
    if drafts.best_draft_len is not None and drafts.best_draft_len != drafts.draft_len:
        notes.append(
            f"for one user draft length {drafts.best_draft_len} should be faster than {drafts.draft_len}"
        )
    return tuple(notes)


def _acceptance(
    recipe: Recipe, request: EstimateRequest, method: str, draft_len: int
) -> tuple[dict[int, float], str]:
    if request.acceptance is not None:
        if request.acceptance > 1:
            return {0: 1.0, draft_len: request.acceptance}, f"--acceptance {request.acceptance:g} tokens"
        rates = [request.acceptance] * draft_len
        return acceptance_lengths(rates), f"--acceptance {request.acceptance:g} of each drafted token"
    table = published_acceptance(recipe.model.source, method)
    return (table.lengths, f"{table.source}; {table.workload}") if table else ({}, "")


def _step_model(work: Work, gpu: Gpu, layout: Layout, load: Load, draft_len: int) -> StepModel:
    """t0 and δ of the roofline at one load."""
    context = load.input_tokens + load.output_tokens // 2
    plain, drafted = (
        step_time(work, gpu, layout, requests=load.concurrency, context=context, drafted=count).total_s * 1e3
        for count in (0, draft_len)
    )
    return StepModel(plain, (drafted - plain) / draft_len)


def gain_at(drafts: Drafts | None, work: Work, gpu: Gpu, layout: Layout, load: Load) -> float:
    """The factor of drafts on the speed between prompts at one load; 1 without drafts."""
    if drafts is None:
        return 1.0
    model = _step_model(work, gpu, layout, load, drafts.draft_len)
    return _gain(model, drafts.draft_len, drafts.acceptance_length)


def _gain(model: StepModel, draft_len: int, acceptance_length: float) -> float:
    return model.tokens_per_s(draft_len, acceptance_length) / model.tokens_per_s(0, 1.0)
