"""Chooses the next token from logits: greedy, or temperature, top_k, top_p and the two penalties.

Works on the CPU whatever computed the logits, so that a seed means the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bwdeploy_runtime.sampling import SamplingParams


class Sampler:
    """The sampling state of one answer."""

    def __init__(self, sampling: SamplingParams) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)
        self._counts: torch.Tensor | None = None

    def choose(self, logits: torch.Tensor) -> tuple[int, float]:
        """The next token and its log probability under the model (before penalties and temperature).

        `logits` has the shape (vocabulary,).
        """
        raw = logits.float().cpu()
        token = self._pick(self._penalize(raw))
        if self._counts is not None:
            self._counts[token] += 1
        return token, float(raw[token] - torch.logsumexp(raw, dim=0))

    def _penalize(self, logits: torch.Tensor) -> torch.Tensor:
        """As OpenAI defines it: frequency counts each occurrence in the answer, presence counts once."""
        frequency, presence = self._sampling.frequency_penalty, self._sampling.presence_penalty
        if not frequency and not presence:
            return logits
        if self._counts is None:
            self._counts = torch.zeros_like(logits)
        return logits - frequency * self._counts - presence * (self._counts > 0)

    def _pick(self, logits: torch.Tensor) -> int:
        if self._sampling.greedy:
            return int(logits.argmax())
        temperature = 1.0 if self._sampling.temperature is None else self._sampling.temperature
        values, tokens = logits.sort(descending=True)
        keep = self._sampling.top_k or len(values)
        probabilities = torch.softmax(values[:keep] / temperature, dim=0)
        if self._sampling.top_p is not None:
            # A token stays while the tokens before it do not yet reach top_p: at least the first one does.
            before = probabilities.cumsum(0) - probabilities
            probabilities = probabilities.masked_fill(before >= self._sampling.top_p, 0.0)
        choice = torch.multinomial(probabilities, 1, generator=self._generator)
        return int(tokens[choice])
