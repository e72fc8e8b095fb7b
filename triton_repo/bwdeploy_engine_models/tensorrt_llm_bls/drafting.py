"""Speculative decoding with two engines: one proposes tokens, the other keeps what it would have chosen.

A round asks the drafting engine for some tokens and the target for one token more than those; the target
returns what it accepts and at least one token of its own. No Triton here: the two engines are functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bwdeploy_engine_models.triton_types import Array


class Draft(NamedTuple):
    """Tokens that the drafting engine proposes."""

    tokens: list[int]
    logits: Array | None = None
    """[tokens, vocabulary], for a target that compares logits."""


class Ends(NamedTuple):
    """What ends an answer before its length does."""

    end_id: int
    words: Sequence[Sequence[int]] = ()
    """Stop words by token."""

    def cut(self, answer: Sequence[int], begin: int) -> int | None:
        """How much of `answer` remains when it ends at a token from `begin` on; None when it goes on."""
        for length in range(begin + 1, len(answer) + 1):
            if answer[length - 1] == self.end_id or any(
                list(answer[max(0, length - len(word)) : length]) == list(word) for word in self.words if word
            ):
                return length
        return None


def draft_and_verify(
    *,
    max_tokens: int,
    draft_tokens: int,
    ends: Ends,
    propose: Callable[[list[int], int], Draft],
    verify: Callable[[list[int], Draft], list[int]],
) -> list[int]:
    """The tokens of the answer; both functions get the answer so far."""
    answer: list[int] = []
    while len(answer) < max_tokens:
        wanted = min(draft_tokens, max_tokens - len(answer) - 1)
        draft = propose(answer, wanted) if wanted > 0 else Draft([])
        new = verify(answer, draft)
        if not new:  # the target ended before a token of its own
            return answer
        begin = len(answer)
        answer = (answer + new)[:max_tokens]
        remaining = ends.cut(answer, begin)
        if remaining is not None:
            return answer[:remaining]
    return answer
