"""What the gate found: the verdict on each limit with its interval, the audit's findings, perplexities."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Badge, Note, Picture, Section, Table
from bwdeploy.report.html.figures.verdicts import Row, draw_verdicts
from bwdeploy.report.html.numbers import ABSENT, change, percent, rounded, significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.pipeline.jobs import AuditReport
    from bwdeploy.pipeline.training_jobs import AccuracyReport, SampleValues
    from bwdeploy.report.html.blocks import Block, Cell, Tone
    from bwdeploy.report.html.data import ReportData
    from bwdeploy.stages.gate_verdicts import JudgedFigure

VERDICT_TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "inconclusive": "warn"}
_SEVERITY_TONES: dict[str, Tone] = {"error": "bad", "warning": "warn", "info": "plain"}
_SHARES = frozenset({"relative", "share"})
_ROW_INCHES, _FRAME_INCHES = 0.34, 0.8


def gate_section(data: ReportData) -> Section | None:
    """Verdicts first, then what they rest on."""
    blocks = [*_verdicts(data), *_compared(data.accuracy), *_audited(data.audit)]
    return Section("gate", "Gate", tuple(blocks)) if blocks else None


def _verdicts(data: ReportData) -> Iterator[Block]:
    judged, confidence = data.judged, f"{data.recipe.gate.confidence:.0%}"
    rows = [row for row in map(in_limits, judged) if row is not None]
    if rows:
        yield Picture(
            "verdicts",
            "Verdicts",
            f"Each figure with its bounds at {confidence} one-sided confidence. An interval wholly left of"
            " the dashed line passes, one wholly right of it fails; one that crosses it needs more samples.",
            partial(draw_verdicts, rows=rows),
            height=_ROW_INCHES * len(rows) + _FRAME_INCHES,
        )
    if judged:
        yield Table(
            f"Verdicts at {confidence} one-sided confidence",
            ("Figure", "Verdict", "Reached", "Value", "Bounds", "Limit", "Samples", "Samples to decide"),
            tuple(_verdict_cells(one) for one in judged),
            texts=frozenset({0, 1}),
        )
        yield from (
            Note(f"{one.name}: {one.judgement.reason}", VERDICT_TONES[one.judgement.verdict])
            for one in judged
            if one.judgement.verdict != "pass"
        )


def _verdict_cells(one: JudgedFigure) -> tuple[Cell, ...]:
    judged = one.judgement
    needed = judged.samples_to_decide if judged.verdict == "inconclusive" else None
    return (
        one.name if one.unit in _SHARES else f"{one.name}, {one.unit}",
        Badge(judged.verdict, VERDICT_TONES[judged.verdict]),
        one.change or ABSENT,
        _shown(judged.value, one.unit),
        f"{_shown(judged.low, one.unit)} to {_shown(judged.high, one.unit)}",
        f"{'at least' if judged.higher_is_better else 'at most'} {_shown(judged.limit, one.unit)}",
        f"{judged.samples:,}",
        f"{needed:,}" if needed is not None else ABSENT,
    )


def _shown(value: float | None, unit: str) -> str:
    """Shares in percent, with a sign where they are changes."""
    if value is None:
        return ABSENT
    if unit in _SHARES:
        return change(value) if unit == "relative" else percent(value, 2)
    return significant(value)


def in_limits(one: JudgedFigure) -> Row | None:
    """Figure and bounds in units of what the limit allows; None where that or what was measured is nothing.

    What should be as large as possible and has a limit above zero is a share, lost from 1 on; everything else
    is lost from 0 on.
    """
    judged = one.judgement
    perfect = 1.0 if judged.higher_is_better and judged.limit > 0 else 0.0
    allowed = judged.limit - perfect
    if not allowed or judged.value is None or judged.low is None or judged.high is None:
        return None
    value, *ends = ((number - perfect) / allowed for number in (judged.value, judged.low, judged.high))
    if not all(math.isfinite(number) for number in (value, *ends)):
        return None
    return Row(one.name, judged.verdict, value, min(ends), max(ends))


def _compared(accuracy: AccuracyReport | None) -> Iterator[Block]:
    if accuracy is None:
        return
    rows: list[tuple[Cell, ...]] = []
    if accuracy.text is not None:
        text = accuracy.text
        rows += [
            ("Negative log likelihood, nats per token", *_pair(text.negative_log_likelihood)),
            ("KL divergence, nats per token", ABSENT, _mean(text.kl_divergence), _count(text.kl_divergence)),
            ("Top-1 agreement", ABSENT, _mean(text.top1_agreement), _count(text.top1_agreement)),
        ]
    rows += [(f"{task.task}: {task.metric}", *_pair(task.scores)) for task in accuracy.tasks]
    if rows:
        yield Table(
            "Source and checkpoint on the same samples, means",
            ("Figure", "Source", "Checkpoint", "Samples"),
            tuple(rows),
        )


def _pair(values: SampleValues) -> tuple[str, str, str]:
    return _mean(values.source), _mean(values.checkpoint), _count(values.source)


def _mean(values: Sequence[float]) -> str:
    return rounded(sum(values) / len(values), 4) if values else ABSENT


def _count(values: Sequence[float]) -> str:
    return f"{len(values):,}"


def _audited(audit: AuditReport | None) -> Iterator[Block]:
    if audit is None:
        return
    if audit.quantized_perplexity is not None:
        yield Table(
            f"Perplexity on {audit.evaluated_tokens:,} held-out tokens, activations {audit.activations}",
            ("Model", "Perplexity", "Change"),
            tuple(_perplexities(audit)),
        )
    if audit.findings:
        yield Table(
            "Findings of the audit",
            ("Check", "Severity", "Tensor", "What it is", "What to do"),
            tuple(
                (
                    one.check,
                    Badge(one.severity, _SEVERITY_TONES[one.severity]),
                    one.tensor or ABSENT,
                    one.message,
                    one.hint or ABSENT,
                )
                for one in audit.findings
            ),
            texts=frozenset(range(5)),
        )
    else:
        yield Note(
            f"The audit looked at {audit.tensors:,} tensors, compared {audit.compared_tensors:,} with the"
            " source and found nothing wrong.",
            "good",
        )


def _perplexities(audit: AuditReport) -> Iterator[tuple[str, str, str]]:
    before, after = audit.source_perplexity, audit.quantized_perplexity
    if before is not None:
        yield "source", rounded(before, 3), ""
    if after is not None:
        yield "checkpoint", rounded(after, 3), change(after / before - 1) if before else ""
