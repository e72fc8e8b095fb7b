"""Tokens of a response into texts.

Each response is decoded by itself, for nothing says which answer it belongs to. So when a stream goes through
the ensemble, a character whose bytes come in several responses shows as U+FFFD, as with upstream's model;
tensorrt_llm_bls puts such characters together. Bytes of an unfinished character at the end of a text are
dropped; a response that has nothing else keeps its U+FFFD, so that the loss is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy_engine_models.errors import RequestError
from bwdeploy_engine_models.tokenization import UNFINISHED, decode_checked

if TYPE_CHECKING:
    from bwdeploy_engine_models.tokenization import TextTokenizer
    from bwdeploy_engine_models.triton_types import Array

KEEP_UNFINISHED = "keep_unfinished"
"""Request parameter of a caller that puts the pieces together itself."""

_DIMENSIONS = 3


def detokenize(
    tokens: Array, lengths: Array, tokenizer: TextTokenizer, *, skip_special: bool, keep_unfinished: bool
) -> list[str]:
    """One text for each beam of each request of the batch; tokens [batch, beams, n], lengths [batch, beams].

    Raises:
        RequestError: the shapes do not fit, a length lies outside its row, or a number is no token.
    """
    if tokens.ndim != _DIMENSIONS or lengths.shape != tokens.shape[:2]:
        raise RequestError(f"TOKENS_BATCH {tokens.shape} and SEQUENCE_LENGTH {lengths.shape} do not fit.")
    texts = []
    # No -1: the last response of a stream may bring no token.
    rows = tokens.reshape(lengths.size, tokens.shape[2])
    for row, length in zip(rows, lengths.reshape(-1).tolist(), strict=True):
        if not 0 <= length <= len(row):
            raise RequestError(f"SEQUENCE_LENGTH is {length}, but there are {len(row)} tokens.")
        text = decode_checked(tokenizer, row[:length].tolist(), skip_special=skip_special)
        texts.append(text if keep_unfinished else text.rstrip(UNFINISHED) or text)
    return texts
