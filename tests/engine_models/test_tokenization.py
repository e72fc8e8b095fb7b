from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy_engine_models.errors import SettingError
from bwdeploy_engine_models.tokenization import NO_TOKEN, SpecialIds, load_tokenizer, special_ids


@pytest.fixture
def files(tokenizer_files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokenizer_files, tmp_path / "tokenizer"))


def write(files: Path, name: str, content: dict[str, Any]) -> None:
    (files / name).write_text(json.dumps(content))


def ids(files: Path) -> SpecialIds:
    return special_ids(files, load_tokenizer(files))


def test_truncation_and_padding_of_an_export_are_off(tokenizer_files: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_files)
    text = "a world is round. " * 20
    assert tokenizer.decode(tokenizer.encode(text, special=True), skip_special=True) == text
    assert len(tokenizer.encode("a", special=True)) == 1


def test_the_tokenizers_own_word_for_the_end_comes_first(files: Path) -> None:
    write(files, "generation_config.json", {"eos_token_id": [7, 8], "pad_token_id": 9})
    assert ids(files) == SpecialIds(end=0, pad=1)
    write(files, "tokenizer_config.json", {})
    assert ids(files) == SpecialIds(end=7, pad=9)


def test_padding_falls_back_to_the_end_and_the_end_to_none(files: Path) -> None:
    write(files, "tokenizer_config.json", {"eos_token": "<end>", "pad_token": None})
    assert ids(files) == SpecialIds(end=0, pad=0)
    write(files, "tokenizer_config.json", {"eos_token": "<no such token>"})
    assert ids(files) == SpecialIds(end=NO_TOKEN, pad=0)
    (files / "generation_config.json").write_text("not json")
    write(files, "config.json", {"eos_token_id": 5})
    assert ids(files) == SpecialIds(end=5, pad=5)


def test_a_tokenizer_that_cannot_be_read_is_named(files: Path) -> None:
    (files / "tokenizer.json").write_text("{}")
    with pytest.raises(SettingError, match=f"the tokenizer in {files} cannot be read"):
        load_tokenizer(files)


def test_without_tokenizer_json_and_transformers_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SettingError, match=r"has no tokenizer\.json, and transformers is not installed"):
        load_tokenizer(tmp_path)


@pytest.mark.slow  # importing transformers takes seconds
def test_a_model_without_tokenizer_json_is_read_by_transformers(tmp_path: Path) -> None:
    words = {"a": 0, "b": 1, "c": 2, "Ġ": 3, "ab": 4, "<|endoftext|>": 5}
    write(tmp_path, "vocab.json", words)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    write(
        tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    )
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("ab c", special=True) == [4, 3, 2]
    assert tokenizer.decode([4, 3, 2, 5], skip_special=True) == "ab c"
    assert special_ids(tmp_path, tokenizer) == SpecialIds(end=5, pad=5)
