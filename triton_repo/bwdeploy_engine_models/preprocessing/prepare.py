"""From the inputs of one request (a batch of prompts) to the tensors of the engine; numpy only.

Names, shapes and paddings are upstream's. Messages speak of the names that clients write: those of the
ensemble.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bwdeploy_engine_models.errors import RequestError
from bwdeploy_engine_models.texts import texts_of
from bwdeploy_engine_models.words import bias_tensor, no_words, word_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy_engine_models.tokenization import SpecialIds, TextTokenizer
    from bwdeploy_engine_models.triton_types import Array


class Preparation(NamedTuple):
    """How this model prepares requests."""

    tokenizer: TextTokenizer
    special: SpecialIds
    add_special_tokens: bool
    vocab_size: int
    """The engine's, which may be larger than the tokenizer's."""
    max_seq_len: int | None
    """Prompt and answer together, in tokens; None when it is not known."""


def prepare(inputs: Mapping[str, Array], how: Preparation) -> dict[str, Array]:
    """The outputs by name.

    Raises:
        RequestError: a prompt is empty or too long, a length is below 1, or a text is not UTF-8.
    """
    batch = len(_needed(inputs, "QUERY", "text_input"))
    end, pad = (
        _ids(inputs, name, batch, default)
        for name, default in (("END_ID", how.special.end), ("PAD_ID", how.special.pad))
    )
    prompts = _prompts(inputs, how)
    tokens, lengths = _padded(prompts, pad)
    outputs = {
        "INPUT_ID": tokens,
        "REQUEST_INPUT_LEN": lengths,
        "REQUEST_OUTPUT_LEN": _output_lengths(inputs),
        "OUT_END_ID": end,
        "OUT_PAD_ID": pad,
        **_decoder_inputs(inputs, how, pad),
        **_words(inputs, how, batch),
    }
    extra = inputs.get("PROMPT_TABLE_EXTRA_ID")
    if extra is not None:
        marked = np.where(tokens >= how.vocab_size, extra.reshape(batch, 1), 0)
        outputs["OUT_PROMPT_TABLE_EXTRA_IDS"] = marked.astype(np.uint64)
    return outputs


def _prompts(inputs: Mapping[str, Array], how: Preparation) -> list[list[int]]:
    texts = _texts("text_input", inputs["QUERY"], how)
    prompts = [how.tokenizer.encode("".join(row), special=how.add_special_tokens) for row in texts]
    for prompt in prompts:
        if not prompt:
            raise RequestError("text_input has no tokens.")
        if how.max_seq_len is not None and len(prompt) >= how.max_seq_len:
            raise RequestError(
                f"text_input has {len(prompt)} tokens; prompt and answer share {how.max_seq_len}, so that "
                f"{how.max_seq_len - 1} are the most."
            )
    return prompts


def _output_lengths(inputs: Mapping[str, Array]) -> Array:
    lengths = _needed(inputs, "REQUEST_OUTPUT_LEN", "max_tokens")
    for value in lengths.reshape(-1).tolist():
        if value < 1:
            raise RequestError(f"max_tokens is {value}; it must be 1 or more.")
    return lengths.astype(np.int32)


def _decoder_inputs(inputs: Mapping[str, Array], how: Preparation, pad: Array) -> dict[str, Array]:
    """The start of the decoder of an encoder-decoder model; one padding token unless the client says more."""
    query = inputs.get("DECODER_QUERY")
    if query is None:
        tokens, lengths = pad, np.ones_like(pad)
    else:
        texts = _texts("decoder_text_input", query, how)
        encoded = [how.tokenizer.encode("".join(row), special=how.add_special_tokens) for row in texts]
        tokens, lengths = _padded(encoded, pad)
    return {"DECODER_INPUT_ID": tokens, "REQUEST_DECODER_INPUT_LEN": lengths}


def _words(inputs: Mapping[str, Array], how: Preparation, batch: int) -> dict[str, Array]:
    encode = partial(how.tokenizer.encode, special=False)
    outputs = {}
    for name, said, output in (
        ("BAD_WORDS_DICT", "bad_words", "BAD_WORDS_IDS"),
        ("STOP_WORDS_DICT", "stop_words", "STOP_WORDS_IDS"),
    ):
        array = inputs.get(name)
        outputs[output] = no_words(batch) if array is None else word_tensor(_texts(said, array, how), encode)
    words, weights = inputs.get("EMBEDDING_BIAS_WORDS"), inputs.get("EMBEDDING_BIAS_WEIGHTS")
    if words is None or weights is None:
        if (words is None) != (weights is None):
            raise RequestError("embedding_bias_words and embedding_bias_weights need each other.")
        outputs["EMBEDDING_BIAS"] = np.empty((batch, 0), dtype=np.float32)
    else:
        pairs = zip(
            _texts("embedding_bias_words", words, how), weights.reshape(batch, -1).tolist(), strict=True
        )
        outputs["EMBEDDING_BIAS"] = bias_tensor(list(pairs), encode, vocab_size=how.vocab_size)
    return outputs


def _texts(said: str, array: Array, how: Preparation) -> list[list[str]]:
    """The texts of an input; what no sequence can hold is refused before it costs a hundredfold in tokens."""
    rows = texts_of(said, array)
    length = max((sum(map(len, row)) for row in rows), default=0)
    if how.max_seq_len is not None and length > how.max_seq_len * how.tokenizer.longest_token:
        raise RequestError(f"{said} has {length} characters, more than {how.max_seq_len} tokens can be.")
    return rows


def _ids(inputs: Mapping[str, Array], name: str, batch: int, default: int) -> Array:
    array = inputs.get(name)
    if array is None:
        return np.full((batch, 1), default, dtype=np.int32)
    return array.reshape(batch, 1).astype(np.int32)


def _padded(rows: list[list[int]], pad: Array) -> tuple[Array, Array]:
    """Tokens [batch, longest] filled up with each request's padding token, and lengths [batch, 1]."""
    lengths = np.array([[len(row)] for row in rows], dtype=np.int32)
    tokens = np.repeat(pad.astype(np.int32), max(1, int(lengths.max())), axis=1)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return tokens, lengths


def _needed(inputs: Mapping[str, Array], name: str, said: str) -> Array:
    array = inputs.get(name)
    if array is None:
        raise RequestError(f"{said} is missing.")
    return array
