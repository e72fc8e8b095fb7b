from __future__ import annotations

from bwdeploy_engine_models.words import no_words, word_tensor, words_of


def test_words_become_tokens_and_offsets_and_back() -> None:
    tensor = word_tensor([["ab", "", "c"], [], ["dddd"]], lambda word: list(word.encode()))
    assert tensor.tolist() == [
        [[97, 98, 99, 0], [2, 3, -1, -1]],
        [[0, 0, 0, 0], [-1, -1, -1, -1]],
        [[100, 100, 100, 100], [4, -1, -1, -1]],
    ]
    assert words_of(tensor[0]) == [[97, 98], [99]]
    assert words_of(tensor[1]) == words_of(no_words(1)[0]) == []
