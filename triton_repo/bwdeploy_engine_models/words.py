"""Stop words, bad words and biased words as the engine takes them: by token.

A list of words becomes two rows: all their tokens, one word after the other, and behind which token each word
ends. Rows of a batch are filled up to one length, with 0 and -1.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from bwdeploy_engine_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bwdeploy_engine_models.triton_types import Array


def word_tensor(batch: Sequence[Sequence[str]], encode: Callable[[str], list[int]]) -> Array:
    """int32 [batch, 2, tokens]; a word of no tokens is left out."""
    rows = [[ids for word in words if word and (ids := encode(word))] for words in batch]
    length = max(1, *(sum(map(len, row)) for row in rows))
    tensor: Array = np.zeros((len(rows), 2, length), dtype=np.int32)
    tensor[:, 1, :] = -1
    for place, row in zip(tensor, rows, strict=True):
        tokens = [token for ids in row for token in ids]
        place[0, : len(tokens)] = tokens
        place[1, : len(row)] = list(accumulate(map(len, row)))
    return tensor


def no_words(batch: int) -> Array:
    """The tensor of a request that names no words."""
    return np.empty((batch, 2, 0), dtype=np.int32)


def words_of(tensor: Array) -> list[list[int]]:
    """The words of one request's tensor [2, tokens], each as its tokens."""
    ends = [int(end) for end in tensor[1] if end > 0]
    return [[int(token) for token in tensor[0][begin:end]] for begin, end in pairwise([0, *ends])]


def bias_tensor(
    batch: Sequence[tuple[Sequence[str], Sequence[float]]],
    encode: Callable[[str], list[int]],
    *,
    vocab_size: int,
) -> Array:
    """float32 [batch, vocab_size]: what is added to the logit of each token of each word.

    Raises:
        RequestError: words and weights differ in number, or a token lies outside the engine's vocabulary.
    """
    tensor: Array = np.zeros((len(batch), vocab_size), dtype=np.float32)
    for place, (words, weights) in zip(tensor, batch, strict=True):
        if len(words) != len(weights):
            raise RequestError(
                f"embedding_bias_words has {len(words)} values, the weights have {len(weights)}."
            )
        for word, weight in zip(words, weights, strict=True):
            for token in encode(word):
                if token >= vocab_size:
                    raise RequestError(f"embedding_bias_words: {word!r} is outside the engine's vocabulary.")
                place[token] += weight
    return tensor
