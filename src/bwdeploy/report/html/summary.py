"""The top of the report: one sentence and the few figures that somebody looks for first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.pipeline.training_jobs import TrainedResult
from bwdeploy.report.draft_measurement import gains_in_runs
from bwdeploy.report.html.numbers import change, gib, rounded
from bwdeploy.report.html.sections.plan import shown_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.report.html.blocks import Tone
    from bwdeploy.report.html.data import ReportData


class Card(NamedTuple):
    """One figure at the top."""

    what: str
    value: str
    remark: str
    tone: Tone = "plain"


def lead_of(data: ReportData) -> str:
    """What is deployed, in one sentence."""
    recipe = data.recipe
    how = {"none": "unquantized", "prequantized": "as it was quantized upstream"}.get(
        recipe.quantize.method, f"{recipe.quantize.format or 'quantized'} by {recipe.quantize.method.upper()}"
    )
    gpus = recipe.layout.nodes * recipe.layout.gpus_per_node
    where = f", on {gpus} × {recipe.layout.gpu}" if recipe.layout.gpu else ""
    return f"{shown_source(recipe)}, {how}{where}, for {recipe.serve.runtime} behind {recipe.serve.server}."


def cards_of(data: ReportData) -> tuple[Card, ...]:
    """The figures that there are."""
    return (*_gate(data), *_quality(data), *_size(data), *_draft(data), *_memory(data))


def _gate(data: ReportData) -> Iterator[Card]:
    verdicts = [one.judgement.verdict for one in data.judged]
    errors = sum(one.severity == "error" for one in data.audit.findings) if data.audit else 0
    if data.refusals:
        yield Card("Build", "stopped", "for the reasons below; nothing was published", "bad")
    elif errors or "fail" in verdicts:
        yield Card(
            "Gate", "fail", f"limits broken: {verdicts.count('fail')}, errors of the audit: {errors}", "bad"
        )
    elif "inconclusive" in verdicts:
        count = verdicts.count("inconclusive")
        yield Card(
            "Gate", "inconclusive", f"{count} of {len(verdicts)} limits would need more samples", "warn"
        )
    elif verdicts:
        yield Card("Gate", "pass", f"{len(verdicts)} of {len(verdicts)} limits kept", "good")
    elif data.audit is not None:
        yield Card("Audit", "clean", f"{data.audit.tensors:,} tensors, no error; no limit on samples", "good")


def _quality(data: ReportData) -> Iterator[Card]:
    audit = data.audit
    if audit is not None and audit.source_perplexity and audit.quantized_perplexity:
        before, after = audit.source_perplexity, audit.quantized_perplexity
        yield Card("Perplexity", change(after / before - 1), f"{rounded(before)} → {rounded(after)}")
    if isinstance(data.quantized, TrainedResult) and data.quantized.curve is not None:
        trained = data.quantized
        if trained.perplexity_before and trained.perplexity_exported:
            gain = trained.perplexity_exported / trained.perplexity_before - 1
            yield Card(
                "Perplexity by training",
                change(gain),
                f"{rounded(trained.perplexity_before)} → {rounded(trained.perplexity_exported)}",
            )


def _size(data: ReportData) -> Iterator[Card]:
    if data.audit is not None:
        algorithm = data.audit.quant_algo or "unquantized"
        yield Card("Bits per parameter", rounded(data.audit.bits_per_parameter), algorithm)


def _draft(data: ReportData) -> Iterator[Card]:
    choice, measured = data.choice, data.acceptance
    if choice is None or measured is None:
        return
    at = next((one for one in measured.overall if one.draft_len == choice.draft_len), None)
    if at is not None:
        yield Card(
            "Acceptance length",
            rounded(at.length.value),
            f"at {at.draft_len} drafted tokens, {rounded(at.length.low)} to {rounded(at.length.high)}",
        )
    if choice.draft_len:
        gain = next(one.speedup for one in choice.first.points if one.draft_len == choice.draft_len)
        run = gains_in_runs(measured).get(choice.draft_len)
        beside = f"; {run:.2f} really run" if run is not None else ""
        yield Card("Draft gains", f"{gain:.2f} times", f"predicted, one request{beside}", "good")
    else:
        yield Card("Draft gains", "nothing", "predicted, at any batch size", "warn")


def _memory(data: ReportData) -> Iterator[Card]:
    memory = data.needs.memory if data.needs else None
    if memory is None:
        return
    gpu = memory.fullest
    of = f"of {gib(gpu.capacity_bytes)}, " if gpu.capacity_bytes is not None else ""
    yield Card("Memory of a GPU", gib(gpu.total_bytes), f"{of}planned", "plain" if memory.fits else "bad")
