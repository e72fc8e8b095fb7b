from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bwdeploy_engine_models.errors import RequestError
from bwdeploy_engine_models.postprocessing.detokenize import detokenize
from bwdeploy_engine_models.tokenization import load_tokenizer


def test_only_a_response_of_nothing_but_fragments_shows_them(tokenizer_files: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_files)
    tokens = np.array([[tokenizer.encode("a👧", special=False)]], dtype=np.int32)

    def text(first: int, last: int, *, keep: bool = False) -> str:
        (found,) = detokenize(
            tokens[:, :, first:last],
            np.array([[last - first]]),
            tokenizer,
            skip_special=True,
            keep_unfinished=keep,
        )
        return found

    assert text(0, tokens.shape[2]) == "a👧"
    assert text(0, 2) == "a"
    assert text(0, 2, keep=True) == "a\N{REPLACEMENT CHARACTER}"
    assert text(1, 2) == "\N{REPLACEMENT CHARACTER}"


def test_a_response_without_tokens_is_an_empty_text(tokenizer_files: Path) -> None:
    found = detokenize(
        np.zeros((1, 2, 0), dtype=np.int32),
        np.zeros((1, 2), dtype=np.int32),
        load_tokenizer(tokenizer_files),
        skip_special=True,
        keep_unfinished=False,
    )
    assert found == ["", ""]


def test_shapes_that_do_not_fit_are_refused(tokenizer_files: Path) -> None:
    with pytest.raises(RequestError, match="do not fit"):
        detokenize(
            np.zeros((1, 2, 3)),
            np.zeros((1, 1)),
            load_tokenizer(tokenizer_files),
            skip_special=True,
            keep_unfinished=False,
        )
