"""The draft: what it is, how it was trained, what it was measured to gain, and what that predicts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Facts, Heading, Note, Picture, Section, Table
from bwdeploy.report.html.curve_blocks import curve_facts, curve_picture
from bwdeploy.report.html.draft_speed import speed_blocks
from bwdeploy.report.html.figures.acceptance import (
    AcceptanceCurve,
    draw_acceptance,
)
from bwdeploy.report.html.numbers import ABSENT, duration, interval, large_count, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.pipeline.training_jobs import (
        DraftAcceptance,
        DraftAudit,
        DraftShape,
        DraftTrainingResult,
        Interval,
        LengthAcceptance,
    )
    from bwdeploy.report.html.blocks import Block, Tone
    from bwdeploy.report.html.data import ReportData

_TONES: dict[str, Tone] = {"error": "bad", "warning": "warn", "info": "plain"}
_NAMES = {"eagle3": "EAGLE3", "mtp": "multi-token prediction"}


def draft_section(data: ReportData) -> Section | None:
    """Everything about the draft, as far as the build has it."""
    blocks = [
        *_identity(data.draft_training, data.draft_audit),
        *_training(data.draft_training),
        *_acceptance(data.acceptance, data.recipe.gate.min_acceptance_length),
        *(speed_blocks(data.choice, data.acceptance) if data.choice is not None else ()),
    ]
    return Section("draft", "Speculative decoding", tuple(blocks)) if blocks else None


def _identity(trained: DraftTrainingResult | None, audit: DraftAudit | None) -> Iterator[Block]:
    shape = (audit.shape if audit is not None else None) or (trained.shape if trained is not None else None)
    if shape is not None:
        yield Facts(tuple(_shape(shape)))
    for one in audit.findings if audit is not None else ():
        yield Note(f"{one.check}: {one.message} {one.hint}".strip(), _TONES[one.severity])


def _shape(shape: DraftShape) -> Iterator[tuple[str, str]]:
    yield "Draft", shape.architecture
    yield "Parameters", f"{large_count(shape.parameters)}, {shape.dtype}"
    yield "Layers", str(shape.layers)
    yield "Feed-forward width", f"{shape.ffn_width:,}"
    share = f" of {shape.vocab_size:,}" if shape.draft_vocab_size != shape.vocab_size else ""
    yield "Vocabulary", f"{shape.draft_vocab_size:,}{share}"
    yield "Reads the target's layers", ", ".join(map(str, shape.hidden_layers))


def _training(result: DraftTrainingResult | None) -> Iterator[Block]:
    if result is None:
        return
    yield Heading("Training of the draft")
    yield Facts(
        (
            *curve_facts(result.curve),
            ("Training tokens", large_count(result.training_tokens)),
            ("Acceptance length, validation", rounded(result.acceptance_length)),
            ("Trained on", f"{result.device}, in {duration(sum(result.seconds.values()))}"),
        )
    )
    yield from curve_picture("draft-training", "Loss and acceptance over the training", result.curve)


def _acceptance(measured: DraftAcceptance | None, limit: float | None) -> Iterator[Block]:
    if measured is None or not measured.overall:
        return
    yield Heading("Measured acceptance")
    yield Facts(tuple(_measured_facts(measured)))
    if limit is not None:
        yield Note(f"The recipe asks for at least {limit:g} tokens in a step (gate.min_acceptance_length).")
    sampled = [(one.draft_len, one.sampled_length.value) for one in measured.overall]
    yield Picture(
        "acceptance",
        "Acceptance against draft length",
        "Tokens gained in one step, the model's own token included, for each draft length and kind of"
        " prompts, and how many of the tokens at each position are accepted. "
        + _acceptance_words(measured.overall),
        partial(
            draw_acceptance,
            overall=_curve("all", measured.overall),
            sampled=sampled,
            workloads=[_curve(one.workload, one.lengths) for one in measured.workloads if one.lengths],
        ),
        height=3.9,
    )
    yield _acceptance_table(measured)
    if measured.greedy_differs:
        yield Note(
            f"Greedy speculative decoding left plain greedy decoding in {measured.greedy_differs:,} answers.",
            "warn",
        )


def _acceptance_words(overall: Sequence[LengthAcceptance]) -> str:
    return (
        "All prompts: "
        + ", ".join(f"{one.length.value:.2f} at length {one.draft_len}" for one in overall)
        + "."
    )


def _curve(name: str, lengths: Sequence[LengthAcceptance]) -> AcceptanceCurve:
    longest = max(lengths, key=lambda one: one.draft_len)
    return AcceptanceCurve(
        name,
        [(one.draft_len, one.length.value, one.length.low, one.length.high) for one in lengths],
        longest.per_position,
    )


def _measured_facts(measured: DraftAcceptance) -> Iterator[tuple[str, str]]:
    yield "Measured with", f"{_NAMES[measured.method]}, {measured.dtype} on {measured.device}"
    yield "Prompts", f"{sum(one.prompts for one in measured.workloads):,}"
    yield "Tokens at each length", f"{sum(one.tokens for one in measured.workloads):,}"
    yield "Draft through torch.compile", "yes" if measured.compiled else "no"
    yield "Steps timed as CUDA graphs", "yes" if measured.graphs else "no"
    yield "Took", duration(sum(measured.seconds.values()))


def _acceptance_table(measured: DraftAcceptance) -> Table:
    groups = [("All, greedy", [one.length for one in measured.overall])]
    groups.append(("All, sampled", [one.sampled_length for one in measured.overall]))
    groups += [
        (f"{work.workload}, {work.prompts:,} prompts", [one.length for one in work.lengths])
        for work in measured.workloads
    ]
    return Table(
        "Acceptance length with its 95 % interval",
        ("Draft length", *(name for name, _ in groups)),
        tuple(
            (str(one.draft_len), *(_cell(values, row) for _, values in groups))
            for row, one in enumerate(measured.overall)
        ),
        texts=frozenset(),
        folded=True,
    )


def _cell(values: Sequence[Interval], row: int) -> str:
    """Of a kind of prompts that was measured as far as all together."""
    return interval(values[row].value, values[row].low, values[row].high) if row < len(values) else ABSENT
