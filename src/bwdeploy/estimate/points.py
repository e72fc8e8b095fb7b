"""Points over concurrency: from aiconfigurator where it can, each other one from the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.errors import HostError, ToolError
from bwdeploy.estimate.drafts import gain_at
from bwdeploy.estimate.figures import AICONFIGURATOR_BAND, EstimatedPoint, EstimateRequest
from bwdeploy.planner.speed.roofline import BAND, estimate_point
from bwdeploy.tools.aiconfigurator import FrontPoint, find_python, install_hint, predict
from bwdeploy.tools.aiconfigurator_request import points_request, simplifications, why_not

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.estimate.figures import Drafts
    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.speed.roofline import Load
    from bwdeploy.planner.speed.work import Work
    from bwdeploy.recipe.schema import Recipe


class Subject(NamedTuple):
    """A recipe with all that an estimate needs to know."""

    recipe: Recipe
    described: DescribedModel
    shape: ModelShape
    gpu: Gpu
    work: Work
    drafts: Drafts | None
    python: Path | None
    """Of aiconfigurator's environment; None: the roofline alone."""


def choose_method(
    recipe: Recipe, described: DescribedModel, gpu: Gpu, request: EstimateRequest
) -> tuple[Path | None, str]:
    """The python of aiconfigurator's environment or None for the roofline, and the reason.

    Raises:
        HostError: aiconfigurator was asked for and is not there, or cannot know this recipe.
    """
    if request.method == "roofline":
        return None, "asked for"
    reason = why_not(recipe, described, gpu)
    python = find_python() if reason is None else None
    if python is not None:
        return python, "measured tables are better than arithmetic"
    if request.method == "aiconfigurator":
        raise HostError(
            reason or "aiconfigurator is not installed",
            hint="use --method roofline" if reason else install_hint(),
        )
    return None, reason or f"aiconfigurator is not installed; to use it, {install_hint()}"


def points_of(
    subject: Subject, load: Load, counts: tuple[int, ...], *, request: EstimateRequest
) -> tuple[list[EstimatedPoint], tuple[FrontPoint, ...], tuple[str, ...]]:
    """Points at `counts` and at the load's own concurrency, the tool's front, and notes."""
    wanted = tuple(sorted({*counts, load.concurrency}))
    found: dict[int, EstimatedPoint] = {}
    front: tuple[FrontPoint, ...] = ()
    notes: tuple[str, ...] = ()
    if subject.python is not None:
        try:
            found, front, notes = _ask(subject, load, wanted, front=request.front)
        except ToolError as error:
            if request.method == "aiconfigurator":
                raise
            notes = (f"aiconfigurator failed, so the roofline is used: {error.message} (log: {error.log})",)
    return [found.get(count) or _roofline_point(subject, load, count) for count in wanted], front, notes


def _roofline_point(subject: Subject, load: Load, count: int) -> EstimatedPoint:
    asked = load._replace(concurrency=count)
    point = estimate_point(
        subject.work, subject.gpu, subject.recipe.layout, asked, faster=_gain(subject, asked)
    )
    return EstimatedPoint(count, point.tokens_per_s_per_user, point.tokens_per_s_per_gpu, "roofline", BAND)


def _ask(
    subject: Subject, load: Load, counts: tuple[int, ...], *, front: bool
) -> tuple[dict[int, EstimatedPoint], tuple[FrontPoint, ...], tuple[str, ...]]:
    recipe, described, gpu = subject.recipe, subject.described, subject.gpu
    if subject.python is None:
        return {}, (), ()
    asked = points_request(recipe, described, gpu, load, counts)
    gpus = recipe.layout.tp * recipe.layout.pp
    said = predict(subject.python, asked._replace(front_gpus=gpus if front else None))
    found = {}
    ranks = asked.attention_dp * asked.pp
    by_count = {point.concurrency: point for point in said.points}
    for count in counts:
        point = by_count.get(-(-count // ranks) * ranks)
        if point is None:
            continue
        gain = _gain(subject, load._replace(concurrency=count))
        found[count] = EstimatedPoint(
            count,
            point.tokens_per_s_per_user * gain,
            point.tokens_per_s_per_gpu * gain * count / point.concurrency,
            "aiconfigurator",
            AICONFIGURATOR_BAND if point.measured_tables else BAND,
            point.warning,
        )
    notes = [f"aiconfigurator has no figure, so the roofline is used: {reason}" for reason in said.missing]
    if said.front_missing:
        notes.append(f"aiconfigurator has no Pareto front of other layouts: {said.front_missing}")
    if said.tables and said.tables != recipe.engine.tensorrt_llm:
        notes.append(
            f"aiconfigurator {said.version} holds tables of TensorRT-LLM {said.tables},"
            f" the recipe has {recipe.engine.tensorrt_llm}"
        )
    return found, said.front, (*notes, *simplifications(recipe, described))


def _gain(subject: Subject, load: Load) -> float:
    return gain_at(subject.drafts, subject.work, subject.gpu, subject.recipe.layout, load)
