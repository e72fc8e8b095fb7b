"""Points over concurrency: from aiconfigurator where it can, each other one from the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.errors import HostError, ToolError
from bwdeploy.estimate.drafts import gain_at
from bwdeploy.estimate.figures import AICONFIGURATOR_BAND, FORMULA_BAND, EstimatedPoint, EstimateRequest
from bwdeploy.planner.speed.roofline import BAND, estimate_point
from bwdeploy.tools.aiconfigurator import FrontPoint, predict
from bwdeploy.tools.aiconfigurator_environment import TESTED_VERSION, find_python, install_hint
from bwdeploy.tools.aiconfigurator_request import points_request, simplifications, why_not

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from bwdeploy.estimate.figures import Drafts
    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.speed.roofline import Load
    from bwdeploy.planner.speed.work import Work
    from bwdeploy.recipe.schema import Recipe
    from bwdeploy.tools.aiconfigurator import Prediction


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


class Answers(NamedTuple):
    """What was found for some loads."""

    points: Mapping[Load, EstimatedPoint]
    front: tuple[FrontPoint, ...]
    notes: tuple[str, ...]


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
        return python, "it has measured tables for this GPU"
    if request.method == "aiconfigurator":
        raise HostError(
            reason or "aiconfigurator is not installed",
            hint="Use --method roofline" if reason else f"To use it, {install_hint()}",
        )
    return None, reason or f"aiconfigurator is not installed; to use it, {install_hint()}"


def points_of(subject: Subject, loads: Iterable[Load], *, request: EstimateRequest) -> Answers:
    """A point for every load; aiconfigurator is asked once for each traffic, and not again after a failure.

    The front is of the first load's traffic.

    Raises:
        ToolError: aiconfigurator was asked for by name and failed.
    """
    wanted = tuple(dict.fromkeys(loads))
    found: dict[Load, EstimatedPoint] = {}
    front: tuple[FrontPoint, ...] = ()
    notes: list[str] = []
    for traffic in dict.fromkeys((one.input_tokens, one.output_tokens) for one in wanted):
        if subject.python is None:
            break
        same = tuple(one for one in wanted if (one.input_tokens, one.output_tokens) == traffic)
        try:
            said = _ask(subject, same, front=request.front and same[0] == wanted[0])
        except ToolError as error:
            if request.method == "aiconfigurator":
                raise
            log = f" (log: {error.log})" if error.log else ""
            notes.append(f"aiconfigurator failed, so the roofline is used: {error.message}{log}")
            break
        found |= said.points
        front = front or said.front
        notes += said.notes
    points = {one: found.get(one) or _roofline_point(subject, one) for one in wanted}
    return Answers(points, front, tuple(dict.fromkeys(notes)))


def _roofline_point(subject: Subject, load: Load) -> EstimatedPoint:
    point = estimate_point(
        subject.work, subject.gpu, subject.recipe.layout, load, faster=_gain(subject, load)
    )
    return EstimatedPoint(
        load.concurrency, point.tokens_per_s_per_user, point.tokens_per_s_per_gpu, "roofline", BAND
    )


def _ask(subject: Subject, loads: tuple[Load, ...], *, front: bool) -> Answers:
    """Aiconfigurator's answer to loads of one traffic."""
    recipe, described, gpu = subject.recipe, subject.described, subject.gpu
    if subject.python is None:
        return Answers({}, (), ())
    asked = points_request(recipe, described, gpu, loads[0], tuple(one.concurrency for one in loads))
    gpus = recipe.layout.tp * recipe.layout.pp
    said = predict(subject.python, asked._replace(front_gpus=gpus if front else None))
    ranks = asked.attention_dp * asked.pp
    by_count = {point.concurrency: point for point in said.points}
    found = {}
    for load in loads:
        point = by_count.get(-(-load.concurrency // ranks) * ranks)
        if point is None:
            continue
        gain = _gain(subject, load)
        found[load] = EstimatedPoint(
            load.concurrency,
            point.tokens_per_s_per_user * gain,
            point.tokens_per_s_per_gpu * gain * load.concurrency / point.concurrency,
            "aiconfigurator",
            AICONFIGURATOR_BAND if point.measured_tables else FORMULA_BAND,
            point.warning,
        )
    return Answers(found, said.front, (*_notes(said, recipe), *simplifications(recipe, described)))


def _notes(said: Prediction, recipe: Recipe) -> Iterator[str]:
    for reason in said.missing:
        yield f"aiconfigurator has no figure, so the roofline is used: {reason}"
    if said.front_missing:
        yield f"aiconfigurator has no Pareto front of other layouts: {said.front_missing}"
    if said.tables and said.tables != recipe.engine.tensorrt_llm:
        yield (
            f"aiconfigurator {said.version} holds tables of TensorRT-LLM {said.tables},"
            f" the recipe has {recipe.engine.tensorrt_llm}"
        )
    if said.version != TESTED_VERSION:
        yield (
            f"the band was found with aiconfigurator {TESTED_VERSION}, this is {said.version}:"
            " it may not hold"
        )


def _gain(subject: Subject, load: Load) -> float:
    return gain_at(subject.drafts, subject.work, subject.gpu, subject.recipe.layout, load)
