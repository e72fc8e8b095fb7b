"""Train an EAGLE3 draft with ModelOpt on what the target itself says, then export it.

What it says is there already (see `answering`), yet the target runs along with every training step: its
hidden states of a whole data set would not fit on most disks. Several GPUs each hold a copy of it and share
every batch.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from bwdeploy.pipeline.training_jobs import DraftTrainingResult
from bwdeploy.worker.drafts.conversations import SECTION
from bwdeploy.worker.drafts.export import export_draft
from bwdeploy.worker.drafts.material import read_material
from bwdeploy.worker.drafts.modelopt_eagle import attach_draft, captured_layers, draft_vocabulary
from bwdeploy.worker.drafts.ranks import Ranks, run_in_ranks, this_rank
from bwdeploy.worker.drafts.target_model import text_config
from bwdeploy.worker.drafts.training_loop import TrainingLoop
from bwdeploy.worker.drafts.training_state import open_state
from bwdeploy.worker.drafts.training_target import load_training_target, refuse_too_few_gpus, told_of_memory
from bwdeploy.worker.drafts.unrolling import UnrolledDraft
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.quantize import Clock, device_name, peak_gpu_memory, refuse_wrong_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import Progress
    from bwdeploy.pipeline.training_jobs import TrainDraft
    from bwdeploy.recipe.schema import DraftTraining

_PART = "bwdeploy.worker.drafts.train:train_as_rank"


def run(request: TrainDraft, report: Callable[[Progress], None]) -> DraftTrainingResult:
    """Train a draft for `request.target` and export it into the existing, empty directory `request.out`.

    Raises:
        RecipeError: data or settings do not fit this model.
        ToolError: the training diverged; its state is kept.
        HostError: no CUDA device, or too few of them, or too little memory.
    """
    _refuse_settings(request.training)
    refuse_wrong_device(request.device)
    refuse_too_few_gpus(request)
    return run_in_ranks(request, lambda ranks: train_draft(request, ranks, report), _PART, report)


def train_as_rank(request: TrainDraft, report: Callable[[Progress], None]) -> DraftTrainingResult | None:
    """The part of one process of a group; None but for rank 0."""
    return train_draft(request, this_rank(request.device), report)


def train_draft(
    request: TrainDraft, ranks: Ranks, report: Callable[[Progress], None]
) -> DraftTrainingResult | None:
    """The part of one process; None but for rank 0."""
    hint = f"Lower {SECTION}.batch_size or seq_len, or set draft_vocab; build again to go on."
    with told_of_memory("train the draft", hint):
        return _train(request, ranks, report)


def _train(
    request: TrainDraft, ranks: Ranks, report: Callable[[Progress], None]
) -> DraftTrainingResult | None:
    training, clock = request.training, Clock()
    with clock.phase("load", report):
        material = read_material(request.answers)
        _refuse_too_few(training, len(material.training))
        target = load_training_target(request, ranks)
        config = text_config(target)
        captured_layers(training, config.num_hidden_layers)
        vocabulary = draft_vocabulary(training, config.vocab_size, material.training)
        state = open_state(request)
    with clock.phase("train", report):
        eagle = attach_draft(target, training, vocabulary)
        draft = UnrolledDraft(eagle, training.ttt_steps)
        loop = TrainingLoop(draft, training, material, state=state, ranks=ranks, report=report)
        trained = loop.run()
    if trained is None:
        return None
    with clock.phase("export", report):
        shape = export_draft(eagle, request.target, request.out)
    return DraftTrainingResult(
        curve=trained.curve,
        shape=shape,
        acceptance_length=trained.validation.acceptance_length,
        training_tokens=sum(len(sequence.tokens) for sequence in material.training),
        target_perplexity=trained.validation.target_perplexity,
        seconds=clock.seconds,
        device=device_name(request.device),
        modelopt_version=version("nvidia-modelopt"),
        torch_version=version("torch"),
        transformers_version=version("transformers"),
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=peak_gpu_memory(request.device),
    )


def _refuse_settings(training: DraftTraining) -> None:
    if training.batch_size % training.gpus:
        raise recipe_error(
            f"{SECTION}.batch_size",
            f"{training.batch_size} sequences cannot be shared evenly by {training.gpus} GPUs",
            hint=f"Use a multiple of {training.gpus}.",
        )


def _refuse_too_few(training: DraftTraining, sequences: int) -> None:
    if sequences < training.batch_size:
        raise recipe_error(
            f"{SECTION}.batch_size",
            f"one step takes {training.batch_size} sequences, but the data makes {sequences}",
            hint="Lower batch_size, or raise prompts or answers_per_prompt.",
        )
