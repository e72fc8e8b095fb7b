"""Acceptance length on held-out prompts during training, from one forward pass over the target's answers.

Greedy verification gives exactly the target's greedy answer, so that answer can be generated once. The
unrolled draft then tells for every position what it would have drafted from there, and real speculative
decoding is a walk: draft, keep what matches, add the target's own token, go on behind it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from bwdeploy.worker.drafts.sequences import make_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bwdeploy.worker.drafts.sequences import TokenSequence
    from bwdeploy.worker.drafts.unrolling import UnrolledDraft

_SEQUENCES = 8
"""In one forward pass."""


class Validation(NamedTuple):
    """Of all held-out answers together."""

    acceptance_length: float
    """Tokens gained in one step of greedy decoding, the target's own included."""
    target_perplexity: float
    """Of the target on its own greedy answers."""


class _Walk(NamedTuple):
    """Speculative decoding of one answer."""

    tokens: int
    steps: int


def validate(
    draft: UnrolledDraft, sequences: Sequence[TokenSequence], *, steps: int, device: str
) -> Validation:
    """Measure the draft with `steps` drafted tokens on greedy answers of the target."""
    walks: list[_Walk] = []
    surprise, rows = 0.0, 0
    ordered = sorted(sequences, key=lambda one: len(one.tokens))
    for start in range(0, len(ordered), _SEQUENCES):
        part = ordered[start : start + _SEQUENCES]
        batch = make_batch(part, steps=steps, decay=1.0).to(device)
        drafted, logits = draft.drafted(batch)
        following = batch.tokens.flatten()[batch.rows + 1]
        surprise += _surprise(logits, following)
        rows += len(following)
        matches = (drafted == following).cpu()
        walks += _walks(part, matches)
    gained, taken = sum(walk.tokens for walk in walks), sum(walk.steps for walk in walks)
    return Validation(
        acceptance_length=gained / taken if taken else 1.0,
        target_perplexity=math.exp(surprise / rows) if rows else math.nan,
    )


def _surprise(logits: Tensor, following: Tensor) -> float:
    """Σ -log p(token), nats."""
    total = torch.nn.functional.cross_entropy(logits.float(), following, reduction="sum")
    return float(total)


def _walks(sequences: Sequence[TokenSequence], matches: Tensor) -> list[_Walk]:
    """One walk for each answer; `matches` is [steps, rows of all sequences]."""
    walks, first = [], 0
    for sequence in sequences:
        for start, end in sequence.answers:
            rows = max(0, end - 1 - start)
            walks.append(walk(matches[:, first : first + rows].tolist()))
            first += rows
    return walks


def walk(matches: Sequence[Sequence[bool]]) -> _Walk:
    """Decode one answer: matches[s][r] says whether step s drafts token r + 1 of it right.

    A step from token `at` drafts tokens at + 1, at + 2, …: step s of the unrolled draft in row at + s.
    """
    rows = len(matches[0])
    at = steps = 0
    while at < rows:
        accepted = 0
        while accepted < len(matches) and at + accepted < rows and matches[accepted][at + accepted]:
            accepted += 1
        at += accepted + 1
        steps += 1
    return _Walk(tokens=rows, steps=steps)
