"""Numbers that follow from a recipe, side by side: the memory of its GPUs, and its speed by arithmetic.

Both sides are estimated for the same traffic, with the roofline alone: nothing is started for it. Where
numbers are not known (a model whose shape nothing on this machine tells) the reason stands in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.rule import subject_of
from bwdeploy.errors import RecipeError
from bwdeploy.estimate.figures import EstimateRequest
from bwdeploy.estimate.recipe import estimate_recipe
from bwdeploy.planner.memory import plan_memory
from bwdeploy.planner.speed.roofline import BAND

if TYPE_CHECKING:
    from bwdeploy.difference.sides import Side
    from bwdeploy.estimate.figures import Estimate
    from bwdeploy.recipe.schema import Recipe


class Range(NamedTuple):
    """A speed, known within a band only."""

    low: float
    high: float


Value = int | Range | None
Figures = Mapping[tuple[str, str], Value]
"""By name and unit."""


class Figure(NamedTuple):
    """A number that follows from a recipe."""

    name: str
    unit: str
    """bytes, tokens, requests, GPUs or tokens/s."""
    a: Value
    b: Value


class FigureGroup(NamedTuple):
    """Numbers of one kind that differ."""

    title: str
    figures: tuple[Figure, ...]
    unknown_a: str
    """Why there are none for that side; empty where there are."""
    unknown_b: str
    remark: str = ""
    """What holds for all of them."""


def figure_groups(a: Side, b: Side) -> tuple[FigureGroup, ...]:
    """All kinds of figures, each with what differs.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    memory = _group("memory", _memory_figures(a), _memory_figures(b))
    return memory, _estimates(subject_of(a.loaded.recipe).recipe, subject_of(b.loaded.recipe).recipe)


def _estimates(a: Recipe, b: Recipe) -> FigureGroup:
    """Both for the traffic of A's first expectation."""
    first = _estimated(a, EstimateRequest(concurrency=(1,), method="roofline"))
    if isinstance(first, str):
        second = _estimated(b, EstimateRequest(concurrency=(1,), method="roofline"))
        return FigureGroup("estimate", (), first, second if isinstance(second, str) else "")
    load = first.load
    request = EstimateRequest(
        input_tokens=load.input_tokens, output_tokens=load.output_tokens, concurrency=(1,), method="roofline"
    )
    second = _estimated(b, request)
    remark = (
        f"by arithmetic, {load.input_tokens:,} tokens in, {load.output_tokens:,} out,"
        f" ranges of {BAND.low:g} to {BAND.high:g} times"
    )
    if isinstance(second, str):
        return FigureGroup("estimate", (), "", second)
    return _group("estimate", _speed_figures(first), _speed_figures(second))._replace(remark=remark)


def _estimated(recipe: Recipe, request: EstimateRequest) -> Estimate | str:
    """The estimate, or why there is none."""
    try:
        return estimate_recipe(recipe, request)
    except RecipeError as error:
        return error.findings[0].message


def _speed_figures(estimate: Estimate) -> Figures:
    (one,), own = estimate.points, estimate.own_point
    return {
        ("tokens/s per user, one request at a time", "tokens/s"): _range(one.tokens_per_s_per_user),
        ("tokens/s per user, full batch", "tokens/s"): _range(own.tokens_per_s_per_user),
        ("tokens/s per GPU, full batch", "tokens/s"): _range(own.tokens_per_s_per_gpu),
        ("requests of a full batch", "requests"): own.concurrency,
    }


def _range(value: float) -> Range:
    return Range(round(value * BAND.low, 2), round(value * BAND.high, 2))


def _memory_figures(side: Side) -> Figures | str:
    """Figures by name and unit, or why there are none."""
    subject = subject_of(side.loaded.recipe)
    memory = plan_memory(subject.recipe, subject.model)
    if memory is None:
        problem = subject.model.problem
        return problem.message if problem else "the model's shape is not known on this machine"
    fullest = memory.fullest
    return {
        ("GPUs", "GPUs"): len(memory.per_gpu),
        ("weights per GPU", "bytes"): fullest.weights_bytes,
        ("draft per GPU", "bytes"): fullest.draft_bytes,
        ("activations per GPU", "bytes"): fullest.activation_bytes,
        ("KV cache of a full batch per GPU", "bytes"): fullest.kv_bytes,
        ("KV cache that is taken per GPU", "bytes"): fullest.kv_pool_bytes,
        ("total per GPU", "bytes"): fullest.total_bytes,
        ("memory of a GPU", "bytes"): fullest.capacity_bytes,
        ("KV cache of a token", "bytes"): memory.kv_bytes_per_token,
        ("tokens that fit", "tokens"): memory.max_tokens_in_kv,
        ("longest requests that fit", "requests"): memory.max_requests,
        ("checkpoint", "bytes"): memory.checkpoint_bytes,
    }


def _group(
    title: str,
    first: Figures | str,
    second: Figures | str,
) -> FigureGroup:
    if isinstance(first, str) or isinstance(second, str):
        unknown_a, unknown_b = (one if isinstance(one, str) else "" for one in (first, second))
        return FigureGroup(title, (), unknown_a, unknown_b)
    changed = tuple(
        Figure(name, unit, first.get((name, unit)), second.get((name, unit)))
        for name, unit in dict.fromkeys((*first, *second))
        if first.get((name, unit)) != second.get((name, unit))
    )
    return FigureGroup(title, changed, "", "")
