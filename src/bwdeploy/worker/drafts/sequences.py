"""Token sequences to train on, cut into batches of similar length.

Positions: the target's logits at row r say what it thinks of token r + 1, and the draft, which reads token
r, predicts the same token from position r - 1. Rows count where tokens r and r + 1 both belong to an answer:
only there a draft is ever asked. Sequences are padded on the right, where causal attention never looks.
"""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

_PAD_TO = 32
"""Few different lengths, so that masks and the allocator's blocks are used again."""
_SORTED_BATCHES = 16
"""Batches whose sequences are sorted by length together: little padding, order still shuffled."""


class TokenSequence(NamedTuple):
    """A prompt with its answer, or a chat with several."""

    tokens: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]
    """First token of each answer, and the one behind its last."""

    def rows(self) -> Tensor:
        """Rows of the target's logits that the draft is held against, int64, ascending."""
        spans = [torch.arange(start, end - 1) for start, end in self.answers if end - 1 > start]
        return torch.cat(spans) if spans else torch.empty(0, dtype=torch.int64)


class Batch(NamedTuple):
    """What one process computes in one step."""

    tokens: Tensor
    """int64 [sequences, longest]."""
    rows: Tensor
    """int64 [rows]: indices into the flattened [sequences * longest]."""
    weights: Tensor
    """float32 [steps, rows]: what each row counts at each unrolled step; their sum is Σ decay^step."""

    def to(self, device: str) -> Batch:
        """Copied to `device` without waiting for it."""
        if device != "cuda":
            return self
        return Batch(*(part.pin_memory().to(device, non_blocking=True) for part in self))


def endless_batches(lengths: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Indices of `size` sequences each, epoch after epoch; the same for the same arguments."""
    for epoch in count():
        yield from _epoch(lengths, size, random.Random(f"{seed} {epoch}"))  # noqa: S311 - data order


def _epoch(lengths: Sequence[int], size: int, chance: random.Random) -> list[list[int]]:
    order = list(range(len(lengths)))
    chance.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), size * _SORTED_BATCHES):
        block = sorted(order[start : start + size * _SORTED_BATCHES], key=lengths.__getitem__)
        batches += [block[first : first + size] for first in range(0, len(block) - size + 1, size)]
    chance.shuffle(batches)
    return batches


def make_batch(
    chosen: Sequence[TokenSequence], *, steps: int, decay: float, share: tuple[int, int] = (0, 1)
) -> Batch:
    """The batch of process `share[0]` of `share[1]`; rows are weighted over the sequences of all of them."""
    rank, ranks = share
    unrolled = torch.arange(steps)[:, None]
    every = torch.cat([sequence.rows() for sequence in chosen])
    totals = (every > unrolled).sum(1, keepdim=True).clamp_min(1)
    own = chosen[rank::ranks]
    tokens = padded([sequence.tokens for sequence in own])
    rows = [sequence.rows() for sequence in own]
    counted = torch.cat(rows) > unrolled
    return Batch(
        tokens=tokens,
        rows=torch.cat([row + index * tokens.shape[1] for index, row in enumerate(rows)]),
        weights=counted * (decay**unrolled / totals),
    )


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """int64 [rows, longest, rounded up]; zeros on the right."""
    width = -(-max(map(len, rows)) // _PAD_TO) * _PAD_TO
    tokens = torch.zeros((len(rows), width), dtype=torch.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return tokens
