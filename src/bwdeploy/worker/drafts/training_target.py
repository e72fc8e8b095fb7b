"""The target of a draft in training, as the job that answers and the job that trains load it."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.errors import HostError
from bwdeploy.worker.drafts.conversations import SECTION
from bwdeploy.worker.drafts.target_model import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.pipeline.training_jobs import AnswerPrompts, TargetJob
    from bwdeploy.worker.drafts.ranks import Ranks


def load_training_target(request: TargetJob[Any], ranks: Ranks) -> Any:  # noqa: ANN401 - transformers
    """The target in evaluation mode, with the rounding of its quantized inputs."""
    return load_target(request.target, device=ranks.device, trust_remote_code=request.trust_remote_code)


def load_tokenizer(request: AnswerPrompts) -> Any:  # noqa: ANN401 - transformers
    """The target's own."""
    return import_module("transformers").AutoTokenizer.from_pretrained(
        request.target, trust_remote_code=request.trust_remote_code
    )


def refuse_too_few_gpus(request: TargetJob[Any]) -> None:
    """Refuse a job for more GPUs than there are.

    Raises:
        HostError: there are fewer.
    """
    there = torch.cuda.device_count()
    if request.device == "cuda" and there < request.training.gpus:
        raise HostError(
            f"The draft is to be trained on {request.training.gpus} GPUs, but this machine has {there}.",
            hint=f"Set {SECTION}.gpus to {there}.",
        )


@contextmanager
def told_of_memory(what: str, hint: str) -> Iterator[None]:
    """Say plainly that the GPU has too little memory for `what`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise HostError(f"The GPU has too little memory to {what}: {reason}", hint=hint) from error
