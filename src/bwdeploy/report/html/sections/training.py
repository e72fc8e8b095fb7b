"""How the quantized model was trained, and whether what ships is what was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.pipeline.training_jobs import TrainedResult
from bwdeploy.report.html.blocks import Facts, Section, Table
from bwdeploy.report.html.curve_blocks import curve_facts, curve_picture
from bwdeploy.report.html.numbers import change, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.report.html.blocks import Block
    from bwdeploy.report.html.data import ReportData


def training_section(data: ReportData) -> Section | None:
    """Curves and perplexities of a training; None for a build without."""
    result = data.quantized
    if not isinstance(result, TrainedResult) or result.curve is None:
        return None
    method = data.recipe.quantize.method.upper()
    blocks: list[Block] = [
        Facts(tuple(curve_facts(result.curve))),
        *curve_picture("training", f"{method} training", result.curve, _levels(result)),
    ]
    rows = tuple(_perplexities(result))
    if rows:
        blocks.append(Table("Perplexity on the validation text", ("Model", "Perplexity", "Change"), rows))
    return Section("training", "Training of the quantized model", tuple(blocks))


def _levels(result: TrainedResult) -> tuple[tuple[str, float], ...]:
    """Lines to compare the metric with; only perplexity has them."""
    if result.curve is None or result.curve.metric != "perplexity" or result.perplexity_before is None:
        return ()
    return (("before training", result.perplexity_before),)


def _perplexities(result: TrainedResult) -> Iterator[tuple[str, str, str]]:
    before = result.perplexity_before
    for name, value in (
        ("calibrated, before training", before),
        ("in training, at the step that was kept", result.perplexity_trained),
        ("exported files, read back", result.perplexity_exported),
    ):
        if value is not None:
            against = change(value / before - 1) if before and value is not before else ""
            yield name, rounded(value, 3), against
