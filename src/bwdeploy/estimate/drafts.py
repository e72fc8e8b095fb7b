"""What drafts do to the speed: acceptance from the caller or a published table, times from the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.errors import argument_error
from bwdeploy.estimate.figures import Drafts, EstimateRequest
from bwdeploy.facts.acceptance import published_acceptance
from bwdeploy.planner.memory.settings import drafting
from bwdeploy.planner.speed.roofline import step_time
from bwdeploy.planner.speed.steps import DEAD_DRAFT, StepModel, acceptance_lengths, best_draft_len

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.planner.memory.settings import Drafting
    from bwdeploy.planner.speed.roofline import Load
    from bwdeploy.planner.speed.work import Work
    from bwdeploy.recipe.schema import Layout, Recipe

_OWN_ONLY = 2
"""Lengths that are known when only the recipe's own is: none and it."""
_WORTH_SAYING = 1.03
"""Gain of another draft length; the step model is off by 3 % where it can be compared."""


def drafts_of(
    recipe: Recipe, request: EstimateRequest, work: Work, gpu: Gpu, load: Load
) -> tuple[Drafts | None, tuple[str, ...]]:
    """The effect of drafts, None without drafts or when their acceptance is not known.

    Raises:
        RecipeError: --acceptance is impossible, or the recipe does not draft.
    """
    draft = drafting(recipe)
    if draft is None:
        if request.acceptance is not None:
            raise argument_error("--acceptance: the recipe drafts nothing", "Add a section speculative")
        return None, ()
    lengths, source, notes = _acceptance(recipe, request, draft)
    alone = load._replace(concurrency=1)
    if recipe.speculative is not None and recipe.speculative.draft_len == "auto":
        model = _step_model(work, gpu, recipe.layout, alone, draft.length)
        draft = draft._replace(length=_best_up_to(draft.length, model, lengths))
    length = lengths.get(draft.length)
    if length is None:
        note = f"drafts are left out: nothing is published about the acceptance of {draft.length} tokens of"
        return None, (f"{note} {draft.method} with this model; give --acceptance",)
    model = _step_model(work, gpu, recipe.layout, alone, draft.length)
    drafts = Drafts(
        method=draft.method,
        draft_len=draft.length,
        acceptance_length=length,
        source=source,
        gain_alone=_gain(model, draft.length, length),
        best_draft_len=best_draft_len(model, lengths) if len(lengths) > _OWN_ONLY else None,
    )
    return drafts, (*notes, *_draft_notes(drafts, model, lengths))


def _best_up_to(longest: int, model: StepModel, lengths: Mapping[int, float]) -> int:
    """The length that `auto` should end with; the longest while nothing shorter is known."""
    known = {draft_len: length for draft_len, length in lengths.items() if 0 < draft_len <= longest}
    return best_draft_len(model, known) if known else longest


def _draft_notes(drafts: Drafts, model: StepModel, lengths: Mapping[int, float]) -> tuple[str, ...]:
    if drafts.acceptance_length < DEAD_DRAFT:
        note = (
            f"an acceptance length of {drafts.acceptance_length:g} says that the draft does not fit: look at"
            " its revision, tokenizer, chat template and hidden state layers"
        )
        return (note,)
    notes = ["the bands do not cover how many drafted tokens your own text accepts"]
    best = drafts.best_draft_len
    if best is not None and _gain(model, best, lengths[best]) > drafts.gain_alone * _WORTH_SAYING:
        notes.append(f"for one user draft length {best} should be faster than {drafts.draft_len}")
    return tuple(notes)


def _acceptance(
    recipe: Recipe, request: EstimateRequest, draft: Drafting
) -> tuple[dict[int, float], str, tuple[str, ...]]:
    """Acceptance lengths by draft length, where they come from, and what is not right about them."""
    given = request.acceptance
    if given is not None:
        if not 0 <= given <= draft.length + 1:
            raise argument_error(
                f"--acceptance {given:g}: a step with {draft.length} drafted tokens gains 1 to"
                f" {draft.length + 1} tokens",
                "Give that number, or the rate of each token between 0 and 1",
            )
        if given > 1:
            return {0: 1.0, draft.length: given}, f"--acceptance {given:g} tokens", ()
        lengths = acceptance_lengths([given] * draft.length)
        return lengths, f"--acceptance {given:g} of each drafted token", ()
    table = published_acceptance(recipe.model.source, draft.method)
    if table is None:
        return {}, "", ()
    source = f"{table.source}; {table.workload}"
    settings = _relaxed_settings(recipe)
    if settings is None:
        return table.lengths, source, ()
    for one in table.relaxed:
        if (one.draft_len, one.topk, one.delta) == (draft.length, *settings):
            lengths = {0: 1.0, draft.length: one.length}
            return lengths, f"{source}; relaxed, top {one.topk}, delta {one.delta:g}", ()
    note = "nothing is published about these settings of relaxed acceptance: the strict one is counted"
    return table.lengths, source, (note,)


def _relaxed_settings(recipe: Recipe) -> tuple[object, object] | None:
    """relaxed_topk and relaxed_delta, None when acceptance is strict."""
    config = recipe.engine.llm_args.get("speculative_config")
    if not isinstance(config, dict) or config.get("use_relaxed_acceptance_for_thinking") is not True:
        return None
    return config.get("relaxed_topk"), config.get("relaxed_delta")


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
