"""The `expect:` figures of a recipe beside the estimate, and what to look at when they are far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bwdeploy.estimate.figures import Compared, EstimateRequest
from bwdeploy.estimate.points import Subject, points_of
from bwdeploy.planner.speed.roofline import Load
from bwdeploy.planner.speed.slow_settings import slow_settings

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Expectation


def compare(subject: Subject, load: Load, name: str, one: Expectation) -> Compared:
    """One expectation at its own workload; aiconfigurator is asked again only for it."""
    workload = one.workload
    per_user = one.metric == "tokens_per_s_per_user"
    count = (workload.concurrency if workload else None) or (1 if per_user else load.concurrency)
    asked = Load(
        concurrency=count,
        input_tokens=workload.input_tokens if workload else load.input_tokens,
        output_tokens=workload.output_tokens if workload else load.output_tokens,
    )
    (point,), _, _ = points_of(subject, asked, (count,), request=EstimateRequest())
    gpus = subject.recipe.layout.tp * subject.recipe.layout.pp
    value = {
        "tokens_per_s_per_user": point.tokens_per_s_per_user,
        "tokens_per_s_per_gpu": point.tokens_per_s_per_gpu,
        "tokens_per_s": point.tokens_per_s_per_gpu * gpus,
    }[one.metric]
    low, high = value * point.band.low, value * point.band.high
    verdict: Literal["inside", "above", "below"] = (
        "above" if one.value > high else "below" if one.value < low else "inside"
    )
    outside = verdict != "inside"
    look_at = (
        slow_settings(
            subject.recipe,
            subject.shape,
            subject.gpu,
            per_user=per_user,
            input_tokens=asked.input_tokens,
        )
        if outside
        else ()
    )
    return Compared(name, one.metric, one.value, one.status, one.source, asked, low, high, verdict, look_at)
