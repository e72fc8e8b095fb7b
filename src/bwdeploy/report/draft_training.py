"""A trained draft as text and as JSON (`draft train`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import DraftTrainingResult, TrainingCurve

_WORDS = {"steps": "all its steps", "patience": "no further improvement"}


def training_json(training: DraftTrainingResult, draft: Path) -> dict[str, Any]:
    """The contract of `draft train --json`; `draft` is the directory that TensorRT-LLM loads."""
    return {"ok": True, "draft": str(draft), "training": training.model_dump(mode="json")}


def training_text(training: DraftTrainingResult, draft: Path) -> str:
    """What the draft is, how its training went, and where it lies."""
    shape = training.shape
    layers = "1 layer" if shape.layers == 1 else f"{shape.layers} layers"
    size = f"{shape.parameters:,} parameters"
    tokens = f"{shape.draft_vocab_size:,} of {shape.vocab_size:,} tokens"
    seconds = sum(training.seconds.values())
    return "\n".join(
        [
            f"EAGLE3 draft: {size}, {layers}, FFN width {shape.ffn_width:,}, {tokens}",
            f"trained: {training_words(training.curve)}, {seconds:,.0f} s on {training.device}",
            f"acceptance length on validation prompts: {training.acceptance_length:.2f}",
            f"draft: {draft}",
        ]
    )


def training_words(curve: TrainingCurve) -> str:
    """Steps, why they ended, and which one was kept."""
    resumed = f", resumed at {curve.resumed_at:,}" if curve.resumed_at is not None else ""
    return f"{curve.steps:,} steps ({_WORDS[curve.stopped]}{resumed}), kept step {curve.best_step:,}"
