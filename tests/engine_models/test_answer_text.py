from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models

from bwdeploy_engine_models.tensorrt_llm_bls.answer_text import AnswerText, Piece, cut_behind_stop
from bwdeploy_engine_models.tokenization import load_tokenizer


def answer(tokenizer: Any, *stops: str) -> AnswerText:
    return AnswerText(lambda rows: [tokenizer.decode(row, skip_special=True) for row in rows], stops)


def test_pieces_are_whole_characters_whatever_the_steps(tokenizer_files: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_files)
    text = "Grüße 👩‍👧 東京, x"
    tokens = tokenizer.encode(text, special=False)
    for step in range(1, 8):
        told = answer(tokenizer)
        pieces = [told.push(tokens[at : at + step]).text for at in range(0, len(tokens), step)]
        assert "".join(pieces) == text
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_spaces_between_tokens_survive_a_tokenizer_that_drops_the_first_one() -> None:
    """As Llama 2 and Mistral do: decoded alone, no token has its space."""
    words = {"▁the": 0, "▁quick": 1, "▁fox": 2, "<unk>": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.decoder = decoders.Metaspace()
    told = AnswerText(lambda rows: [inner.decode(row) for row in rows], ())
    assert [told.push([token]).text for token in (0, 1, 2)] == ["the", " quick", " fox"]


def test_a_stop_word_is_found_across_pieces(tokenizer_files: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_files)
    told = answer(tokenizer, "never", "wo t")
    pieces = [told.push([token]) for token in tokenizer.encode("one two", special=False)]
    assert not any(piece.stopped for piece in pieces)
    assert told.push(tokenizer.encode(" three", special=False)) == Piece(" t", stopped=True)
    assert told.text == "one two t"


def test_the_first_stop_word_wins() -> None:
    assert cut_behind_stop("a b c", ["c", "b", ""]) == Piece("a b", stopped=True)
    assert cut_behind_stop("a b c", ["a"], start=1) == Piece("a b c", stopped=False)
