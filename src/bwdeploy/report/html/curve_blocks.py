"""A training's curve as facts and a picture, for the quantized model and for a draft."""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Picture
from bwdeploy.report.html.figures.curves import Curve, draw_training
from bwdeploy.report.html.numbers import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.pipeline.training_jobs import TrainingCurve

_STOPPED = {"steps": "all steps done", "patience": "no better for a while"}


def curve_facts(curve: TrainingCurve) -> Iterator[tuple[str, str]]:
    """Steps, when and why it stopped, and the best value."""
    yield "Optimizer steps", f"{curve.steps:,}"
    yield "Stopped", _STOPPED[curve.stopped]
    yield "Weights kept", f"of step {curve.best_step:,}"
    best = next((one.validation for one in curve.points if one.step == curve.best_step), None)
    if best is not None:
        yield f"Its {_metric(curve)}", f"{best:.4g}"
    if curve.resumed_at is not None:
        yield "Resumed", f"at step {curve.resumed_at:,}"
    if curve.gpus > 1:
        yield "GPUs", str(curve.gpus)
    seconds = max((one.seconds for one in curve.points), default=0.0)
    if seconds:
        yield "Time", duration(seconds)


def curve_picture(
    name: str, title: str, curve: TrainingCurve, levels: Sequence[tuple[str, float]] = ()
) -> Iterator[Picture]:
    """The curve, when it has points."""
    metric = _metric(curve)
    loss = [(one.step, one.loss) for one in curve.points if one.loss is not None and isfinite(one.loss)]
    validation = [
        (one.step, one.validation)
        for one in curve.points
        if one.validation is not None and isfinite(one.validation)
    ]
    if not loss and not validation:
        return
    drawn = Curve(loss, validation, metric, curve.best_step, curve.resumed_at, levels)
    words = []
    if loss:
        words.append(f"Training loss from {loss[0][1]:.4g} to {loss[-1][1]:.4g} over {curve.steps:,} steps.")
    if validation:
        kept = next((value for step, value in validation if step == curve.best_step), validation[-1][1])
        words.append(
            f"Validation: {metric} from {validation[0][1]:.4g} to {kept:.4g} at the step that was kept."
        )
    yield Picture(name, title, " ".join(words), partial(draw_training, curve=drawn), height=3.1)


def _metric(curve: TrainingCurve) -> str:
    """As people write it."""
    return curve.metric.replace("_", " ").replace("kl ", "KL ")
