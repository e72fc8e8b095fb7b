"""The `expect:` figures of a recipe beside the estimate, and what to look at when they are far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bwdeploy.estimate.figures import Compared, EstimatedPoint
from bwdeploy.planner.speed.roofline import Load
from bwdeploy.planner.speed.slow_settings import slow_settings

if TYPE_CHECKING:
    from bwdeploy.estimate.points import Subject
    from bwdeploy.recipe.schema import Expectation

_PER_USER = "tokens_per_s_per_user"


def load_of(one: Expectation, own: Load) -> Load:
    """Its traffic; what it leaves out is the recipe's own, but a user's speed is of one request."""
    workload = one.workload
    return Load(
        concurrency=(workload.concurrency if workload else None)
        or (1 if one.metric == _PER_USER else own.concurrency),
        input_tokens=workload.input_tokens if workload else own.input_tokens,
        output_tokens=workload.output_tokens if workload else own.output_tokens,
    )


def compare(subject: Subject, name: str, one: Expectation, asked: Load, point: EstimatedPoint) -> Compared:
    """One expectation beside the estimate of its own traffic."""
    gpus = subject.recipe.layout.tp * subject.recipe.layout.pp
    value = {
        _PER_USER: point.tokens_per_s_per_user,
        "tokens_per_s_per_gpu": point.tokens_per_s_per_gpu,
        "tokens_per_s": point.tokens_per_s_per_gpu * gpus,
    }[one.metric]
    low, high = value * point.band.low, value * point.band.high
    verdict: Literal["inside", "above", "below"] = (
        "above" if one.value > high else "below" if one.value < low else "inside"
    )
    look_at = (
        slow_settings(
            subject.recipe,
            subject.shape,
            subject.gpu,
            per_user=one.metric == _PER_USER,
            input_tokens=asked.input_tokens,
        )
        if verdict != "inside"
        else ()
    )
    return Compared(
        name=name,
        metric=one.metric,
        value=one.value,
        status=one.status,
        source=one.source,
        load=asked,
        assumed="traffic" if one.workload is None else "" if one.workload.concurrency else "requests",
        method=point.method,
        low=low,
        high=high,
        verdict=verdict,
        look_at=look_at,
    )
