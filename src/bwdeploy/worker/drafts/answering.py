"""Let the target answer the prompts that a draft shall learn from, and write what comes of it.

The target runs in bf16 on a GPU and in float32 on a CPU, with the rounding of its quantized inputs: the draft
learns the model that is served. Several GPUs each hold a copy of it and share the batches.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from bwdeploy.pipeline.training_jobs import AnswersResult
from bwdeploy.worker.drafts.conversations import SECTION
from bwdeploy.worker.drafts.material import prepare_material, write_material
from bwdeploy.worker.drafts.ranks import Ranks, run_in_ranks, this_rank
from bwdeploy.worker.drafts.training_target import (
    load_tokenizer,
    load_training_target,
    refuse_too_few_gpus,
    told_of_memory,
)
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.process import peak_memory_bytes
from bwdeploy.worker.quantize import Clock, device_name, peak_gpu_memory, refuse_wrong_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import Progress
    from bwdeploy.pipeline.training_jobs import AnswerPrompts

_PART = "bwdeploy.worker.drafts.answering:answer_as_rank"


def run(request: AnswerPrompts, report: Callable[[Progress], None]) -> AnswersResult:
    """Write the material of a training into the existing, empty directory `request.out`.

    Raises:
        RecipeError: the data cannot be used, or the settings contradict each other.
        HostError: no CUDA device, or too few of them, or too little memory.
    """
    training = request.training
    if training.answers == "target" and training.temperature == 0 and training.answers_per_prompt > 1:
        raise recipe_error(
            f"{SECTION}.answers_per_prompt",
            f"with temperature 0 all {training.answers_per_prompt} answers to a prompt are the same",
            hint="Set answers_per_prompt: 1, or a temperature above 0.",
        )
    refuse_wrong_device(request.device)
    refuse_too_few_gpus(request)
    return run_in_ranks(request, lambda ranks: answer(request, ranks, report), _PART, report)


def answer_as_rank(request: AnswerPrompts, report: Callable[[Progress], None]) -> AnswersResult | None:
    """The part of one process of a group; None but for rank 0."""
    return answer(request, this_rank(request.device), report)


def answer(request: AnswerPrompts, ranks: Ranks, report: Callable[[Progress], None]) -> AnswersResult | None:
    """The part of one process; None but for rank 0."""
    clock = Clock()
    hint = f"Lower {SECTION}.seq_len or answer_tokens; build again to go on."
    with told_of_memory("answer the prompts", hint):
        with clock.phase("load", report):
            tokenizer = load_tokenizer(request)
            model = load_training_target(request, ranks)
        with clock.phase("answers", report):
            material = prepare_material(request, model, tokenizer, ranks, report)
    if material is None:
        return None
    write_material(request.out, material)
    return AnswersResult(
        training=len(material.training),
        held_out=len(material.held_out),
        tokens=sum(len(one.tokens) for one in (*material.training, *material.held_out)),
        seconds=clock.seconds,
        device=device_name(request.device),
        torch_version=version("torch"),
        transformers_version=version("transformers"),
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=peak_gpu_memory(request.device),
    )
