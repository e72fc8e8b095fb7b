"""What the training, the search and the draft of a build came to, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bwdeploy.report.draft_measurement import runs_lines
from bwdeploy.report.draft_training import training_words
from bwdeploy.report.drafts import choice_headline
from bwdeploy.stages.acceptance import choice_of, read_acceptance
from bwdeploy.stages.answers import read_answers_report
from bwdeploy.stages.draft import read_draft_report
from bwdeploy.stages.quantize import export_change, read_trained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import TrainedResult, TrainingCurve


def training_lines(stage: str, artifact: Path) -> Iterator[str]:
    """Lines about one stage of a finished build; none about a stage that trains and measures nothing."""
    if stage in _OF_STAGE:
        yield from _OF_STAGE[stage](artifact)


def _quantize(artifact: Path) -> Iterator[str]:
    result = read_trained(artifact)
    if result is None:
        return
    if result.effective_bits is not None:
        yield f"search: {result.effective_bits:.2f} bits per searched weight"
    if result.curve is not None:
        yield f"training: {_gain(result)}{training_words(result.curve)}"
        yield from _warning(result.curve)
        yield from _export(result)


def _gain(result: TrainedResult) -> str:
    before, after = result.perplexity_before, result.perplexity_exported
    if before is None or after is None:
        return ""
    return f"perplexity {before:.2f} → {after:.2f} on the validation text; "


def _warning(curve: TrainingCurve) -> Iterator[str]:
    if curve.best_step == 0:
        yield (
            "training warning: no step was better than the calibrated model, which was kept. "
            "Try another quantize.training.learning_rate, or more steps."
        )


def _export(result: TrainedResult) -> Iterator[str]:
    change = export_change(result.likelihoods_trained, result.likelihoods_exported)
    if change is None or change.value is None or change.value <= change.limit or change.low is None:
        return
    yield (
        f"training note: as exported the perplexity is {change.value:+.1%} from the model in training, "
        f"{change.low:+.1%} to {change.high:+.1%} on {change.samples} sequences: "
        "so much may be rounding. The gate judges the files themselves."
    )


def _answers(artifact: Path) -> Iterator[str]:
    found = read_answers_report(artifact)
    counts = f"{found.training:,} to train the draft on, {found.held_out:,} held out"
    yield f"answers: {counts}; {found.tokens:,} tokens"


def _draft(artifact: Path) -> Iterator[str]:
    training = read_draft_report(artifact).training
    if training is not None:
        yield (
            f"draft: acceptance length {training.acceptance_length:.2f} on its validation prompts;"
            f" {training_words(training.curve)}"
        )


def _acceptance(artifact: Path) -> Iterator[str]:
    measured = read_acceptance(artifact)
    lengths = ", ".join(f"{one.length.value:.2f} at {one.draft_len}" for one in measured.overall)
    yield f"acceptance length by draft length: {lengths}"
    choice = choice_of(measured)
    yield choice_headline(choice)
    yield from runs_lines(measured, choice)


_OF_STAGE: Final[Mapping[str, Callable[[Path], Iterator[str]]]] = {
    "quantize": _quantize,
    "answers": _answers,
    "draft": _draft,
    "acceptance": _acceptance,
}
