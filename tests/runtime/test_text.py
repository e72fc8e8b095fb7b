from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from bwdeploy_runtime.worker.text import ByteDetokenizer, StopMatcher, TokenizerDetokenizer

TEXT = "Grüße 👩‍👩‍👧‍👦 from 東京 🇩🇪!"


@pytest.fixture(scope="module")
def byte_fallback_tokenizer() -> Any:
    """As SentencePiece models of the Llama 2 kind are: bytes as tokens of their own, ▁ for a space."""
    words = ["<unk>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], "▁", "▁from", "Gr", "e"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={w: i for i, w in enumerate(words)}, merges=[], byte_fallback=True, unk_token="<unk>"
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def pieces(detokenizer: Any, ids: list[int]) -> list[str]:
    return [*(detokenizer.push([token]) for token in ids), detokenizer.finish()]


@pytest.mark.parametrize("kind", ["byte_level_tokenizer", "byte_fallback_tokenizer"])
def test_characters_are_never_split(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode(TEXT).ids
    assert len(ids) > len(TEXT)  # otherwise no character has several tokens
    found = pieces(TokenizerDetokenizer(tokenizer), ids)
    assert "".join(found) == TEXT
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in found)


@pytest.mark.parametrize("kind", ["byte_level_tokenizer", "byte_fallback_tokenizer"])
def test_an_unfinished_character_at_the_end_is_dropped(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode("e🌍").ids[:-1]
    assert "".join(pieces(TokenizerDetokenizer(tokenizer), ids)) == "e"


def test_a_real_replacement_character_survives(byte_level_tokenizer: Any) -> None:
    text = "a\N{REPLACEMENT CHARACTER}b"
    ids = byte_level_tokenizer.encode(text).ids
    assert "".join(pieces(TokenizerDetokenizer(byte_level_tokenizer), ids)) == text


def test_special_tokens_have_no_text(byte_fallback_tokenizer: Any) -> None:
    end = byte_fallback_tokenizer.token_to_id("</s>")
    detokenizer = TokenizerDetokenizer(byte_fallback_tokenizer)
    assert detokenizer.push([*byte_fallback_tokenizer.encode("e").ids, end]) == "e"
    assert detokenizer.finish() == ""


@given(st.text(), st.integers(1, 5))
def test_bytes_in_any_cut_give_the_text(text: str, size: int) -> None:
    data = text.encode("utf-8", "ignore")
    detokenizer = ByteDetokenizer()
    found = "".join(detokenizer.push(data[at : at + size]) for at in range(0, len(data), size))
    assert found + detokenizer.finish() == data.decode()


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stop_string_is_found_across_pieces(size: int) -> None:
    matcher = StopMatcher(["</answer>"])
    text = "42 < 43</answer> and more"
    sent = ""
    for at in range(0, len(text), size):
        piece, stop = matcher.push(text[at : at + size])
        sent += piece
        if stop:
            break
    assert (sent, stop) == ("42 < 43", "</answer>")


def test_text_is_held_back_only_while_it_may_be_a_stop_string() -> None:
    matcher = StopMatcher(["abc"])
    assert matcher.push("xab") == ("x", None)
    assert matcher.push("d") == ("abd", None)
    assert matcher.push("ab") == ("", None)
    assert matcher.finish() == "ab"


def test_the_earliest_stop_string_wins_and_then_the_longest() -> None:
    assert StopMatcher(["b", "a"]).push("xab") == ("x", "a")
    assert StopMatcher(["a", "ab"]).push("xab") == ("x", "ab")


def test_without_stop_strings_nothing_is_held() -> None:
    assert StopMatcher([]).push("text") == ("text", None)


@given(
    st.lists(st.text("ab", max_size=3)),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_stop_strings_in_pieces_are_those_of_the_whole(chunks: list[str], stops: list[str]) -> None:
    matcher, sent, stop = StopMatcher(stops), "", None
    for chunk in chunks:
        piece, stop = matcher.push(chunk)
        sent += piece
        if stop:
            break
    sent += matcher.finish()
    whole = "".join(chunks)
    assert whole.startswith(sent)
    assert not any(item in sent for item in stops)
    assert (stop is not None) == any(item in whole for item in stops)
