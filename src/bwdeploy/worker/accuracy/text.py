"""Two models on the same token sequences: likelihood of the text, divergence and agreement of the next token.

The source runs first. What is kept of it is the input of its output head, in files, and the head: both
models' logits are then made side by side for a few hundred positions at a time. So memory holds one model,
one more head and a few chunks of logits, whatever the vocabulary and the number of sequences.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.pipeline.training_jobs import SampleValues, TextComparison
from bwdeploy.worker.calibration import TextRequest, model_sequences
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.next_token import POSITIONS_PER_CHUNK, NextToken, batches_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    import torch
    from torch import Tensor

    from bwdeploy.recipe.schema import Evaluation

    OnBatch = Callable[[int, int], None]

_FEATURES = "features"


class _Side(NamedTuple):
    """One of the two models on one batch."""

    features: Tensor
    logits: Callable[[Tensor], Tensor]


def held_out_sequences(evaluation: Evaluation, tokenizer_of: Path, *, trust_remote_code: bool) -> Tensor:
    """The held-out text of the gate, int64 [samples, seq_len], in tokens of the model in `tokenizer_of`.

    Raises:
        RecipeError: the data cannot be read or is too short.
    """
    wanted = TextRequest.of("gate.evaluation", evaluation, samples=evaluation.samples, part="evaluation")
    return model_sequences(tokenizer_of, wanted, trust_remote_code=trust_remote_code)


class KeptSource(NamedTuple):
    """The source on all sequences, without the source."""

    sequences: Tensor
    place: Path
    """One file of features for each batch."""
    logits: Callable[[Tensor], Tensor]
    device: torch.device

    def features(self, number: int) -> Tensor:
        """Of batch `number`, as `NextToken.features` gives them."""
        files = import_module("safetensors.torch")
        kept: Tensor = files.load_file(_file(self.place, number), device=str(self.device))[_FEATURES]
        return kept


def keep_source(
    halves: NextToken, sequences: Tensor, *, place: Path, device: torch.device, on_batch: OnBatch
) -> KeptSource:
    """Run the source on `sequences`; its features go to files in `place`."""
    torch, files = import_module("torch"), import_module("safetensors.torch")
    batches = batches_of(sequences)
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            on_batch(number, len(batches))
            features = halves.features(batch.to(device)).contiguous()
            files.save_file({_FEATURES: features.cpu()}, _file(place, number))
    on_batch(len(batches), len(batches))
    return KeptSource(sequences, place, halves.logits, device)


def compare_with_source(
    kept: KeptSource,
    halves: NextToken | None,
    *,
    activations: Literal["quantized", "unquantized"],
    on_batch: OnBatch,
) -> TextComparison:
    """The checkpoint beside the source; `halves` None: the checkpoint is the source itself.

    Raises:
        RecipeError: they are models of different vocabularies.
    """
    torch = import_module("torch")
    batches = batches_of(kept.sequences)
    rows: list[Tensor] = []
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            on_batch(number, len(batches))
            tokens = batch.to(kept.device)
            source = _Side(kept.features(number), kept.logits)
            checkpoint = source if halves is None else _Side(halves.features(tokens), halves.logits)
            figures = _figures(source, checkpoint, tokens[:, 1:].flatten())
            rows.append(figures.view(len(figures), len(batch), -1).double().mean(-1).cpu())
    on_batch(len(batches), len(batches))
    likelihoods, theirs, divergence, agreement = torch.cat(rows, dim=1).tolist()
    return TextComparison(
        tokens_per_sequence=kept.sequences.shape[1] - 1,
        negative_log_likelihood=SampleValues(source=tuple(likelihoods), checkpoint=tuple(theirs)),
        kl_divergence=tuple(divergence),
        top1_agreement=tuple(agreement),
        activations=activations,
    )


def _figures(source: _Side, checkpoint: _Side, targets: Tensor) -> Tensor:
    """Float32 [4, positions]: negative log-likelihood of both, divergence in nats, agreement (0 or 1)."""
    torch = import_module("torch")
    chunks = zip(
        source.features.split(POSITIONS_PER_CHUNK),
        checkpoint.features.split(POSITIONS_PER_CHUNK),
        targets.split(POSITIONS_PER_CHUNK),
        strict=True,
    )
    figures = [
        _figures_of_chunk(source.logits(theirs), checkpoint.logits(ours), target)
        for theirs, ours, target in chunks
    ]
    return torch.cat(figures, dim=1)


def _figures_of_chunk(source: Tensor, checkpoint: Tensor, targets: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p - log q); S. Kullback, R. Leibler, "On Information and Sufficiency", 1951.

    Raises:
        RecipeError: the vocabularies differ.
    """
    torch = import_module("torch")
    if source.shape != checkpoint.shape:
        raise recipe_error(
            "gate.reference",
            f"it has {source.shape[1]} tokens in its vocabulary, the checkpoint {checkpoint.shape[1]}",
            hint="Name the model that the checkpoint was made from.",
        )
    log_p, log_q = source.log_softmax(-1), checkpoint.log_softmax(-1)
    # A token that the source rules out (a masked part of the vocabulary) adds nothing: 0 · log 0 = 0.
    terms = torch.where(log_p.isneginf(), 0.0, log_p.exp() * (log_p - log_q))
    likelihoods = [-logs.gather(1, targets[:, None]).squeeze(1) for logs in (log_p, log_q)]
    agreement = (log_p.argmax(-1) == log_q.argmax(-1)).float()
    return torch.stack([*likelihoods, terms.sum(-1).clamp(min=0), agreement])


def _file(place: Path, number: int) -> Path:
    return place / f"{number}.safetensors"
