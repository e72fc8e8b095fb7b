"""How good a model in training is on text it is not trained on: perplexity, and divergence from a teacher.

All batches are summed on the device and read once. On several GPUs each rank measures its share. The KV cache
is not rounded, as it is not in files that are read back: the figures are to be compared with the export's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import distributed
from torch.nn import functional

from bwdeploy.worker.perplexity import perplexity_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_TOKENS_PER_BATCH = 1024
_CACHE_QUANTIZERS = ("k_bmm_quantizer", "v_bmm_quantizer")


class Measured(NamedTuple):
    """What a model reached on the validation text."""

    perplexity: float
    kl_divergence: float | None
    """KL(teacher ‖ model), mean nats per token; None without a teacher."""


class Validation:
    """Validation text, int64 [samples, seq_len], and the teacher that a student is compared with."""

    def __init__(self, sequences: Tensor, *, device: str, teacher: Any = None) -> None:  # noqa: ANN401
        self._device = torch.device(device)
        self._teacher = teacher
        self._tokens = sequences.shape[0] * (sequences.shape[1] - 1)
        per_batch = max(1, _TOKENS_PER_BATCH // sequences.shape[1])
        self._shares = _shares(list(sequences.split(per_batch)))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def measure(self, model: Any) -> Measured:  # noqa: ANN401
        """Measure `model`; on several ranks all of them call this, and all get the same figures."""
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        with _exact_cache(model):
            for batch, counts in self._shares:
                sums += counts * self._batch_sums(model, batch.to(self._device))
        if distributed.is_initialized():
            distributed.all_reduce(sums)
        likelihood, divergence = (sums / self._tokens).tolist()
        return Measured(
            perplexity_of(likelihood),
            None if self._teacher is None else divergence,
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def likelihoods(self, model: Any) -> tuple[float, ...]:  # noqa: ANN401
        """Mean negative log-likelihood of a token of each sequence, in nats; not for one rank of several."""
        model.eval()
        found: list[float] = []
        with _exact_cache(model):
            for batch, _ in self._shares:
                tokens = batch.to(self._device)
                logits = self._logits(model, tokens).transpose(1, 2)
                likelihood = functional.cross_entropy(logits, tokens[:, 1:], reduction="none")
                found += likelihood.double().mean(dim=1).tolist()
        return tuple(found)

    def _logits(self, model: Any, batch: Tensor) -> Tensor:  # noqa: ANN401
        with autocast(self._device.type):
            logits: Tensor = model(input_ids=batch, use_cache=False).logits
        return logits[:, :-1].float()

    def _batch_sums(self, model: Any, batch: Tensor) -> Tensor:  # noqa: ANN401
        logits = self._logits(model, batch).flatten(0, 1)
        likelihood = functional.cross_entropy(logits, batch[:, 1:].flatten(), reduction="sum").double()
        if self._teacher is None:
            return torch.stack((likelihood, torch.zeros_like(likelihood)))
        wanted = self._teacher(input_ids=batch, use_cache=False).logits[:, :-1].flatten(0, 1)
        return torch.stack((likelihood, kl_divergence(wanted, logits).double()))


def kl_divergence(teacher: Tensor, student: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Sum over all rows of KL(teacher ‖ student) of the distributions softened by `temperature`, in nats.

    Logits [..., vocabulary]; Hinton et al. 2015, arXiv 1503.02531, section 2.
    """
    wanted = functional.log_softmax(teacher.float() / temperature, dim=-1)
    given = functional.log_softmax(student.float() / temperature, dim=-1)
    return functional.kl_div(given, wanted, reduction="sum", log_target=True)


def autocast(device: str) -> AbstractContextManager[Any]:
    """Compute in bf16 on a GPU, where the weights are float32; on a CPU float32 is the fastest."""
    return torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext()


@contextmanager
def _exact_cache(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Leave keys and values as they are; training itself rounds them where the recipe says so."""
    named = (one for name, one in model.named_modules() if name.endswith(_CACHE_QUANTIZERS))
    rounding = [one for one in named if one.is_enabled]
    for one in rounding:
        one.disable()
    try:
        yield
    finally:
        for one in rounding:
            one.enable()


def _shares(batches: list[Tensor]) -> list[tuple[Tensor, float]]:
    """This rank's batches with their weight: every rank gets as many, for sharded models run in step."""
    if not distributed.is_initialized():
        return [(batch, 1.0) for batch in batches]
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    own = [(batch, 1.0) for batch in batches[rank::ranks]]
    missing = -(-len(batches) // ranks) - len(own)
    return own + [(batches[0], 0.0)] * missing
