from __future__ import annotations

from bwdeploy_runtime.spelling import suggestion
from bwdeploy_runtime.tensors import INPUT_NAMES, SAMPLING_PREFIX


def test_the_nearest_word_is_suggested() -> None:
    assert suggestion("sampling_param_topk", INPUT_NAMES) == "Did you mean sampling_param_top_k?"


def test_a_missing_prefix_is_seen() -> None:
    assert suggestion("seed", INPUT_NAMES, prefix=SAMPLING_PREFIX) == "Did you mean sampling_param_seed?"
    assert (
        suggestion("best_off", INPUT_NAMES, prefix=SAMPLING_PREFIX) == "Did you mean sampling_param_best_of?"
    )


def test_otherwise_all_words_are_listed() -> None:
    assert suggestion("xyzzy", ["b", "a"]) == "Valid names: a, b."
