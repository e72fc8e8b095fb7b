"""TensorRT-LLM checkpoints as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.engines.checkpoint import is_engine, is_rank_checkpoint, read_rank_checkpoint, recognize
from bwdeploy.engines.document import EngineError
from tests.engines.rank_checkpoints import write_rank_checkpoint


def test_a_checkpoint_is_read_with_its_ranks(tmp_path: Path) -> None:
    write_rank_checkpoint(tmp_path, tp=2, pp=2, quant_algo="NVFP4", kv_cache_quant_algo="FP8")
    (tmp_path / "rank2.safetensors").unlink()
    found = read_rank_checkpoint(tmp_path)
    assert (found.architecture, found.dtype, found.logits_dtype) == (
        "LlamaForCausalLM",
        "bfloat16",
        "float16",
    )
    assert (found.mapping.tp, found.mapping.pp, found.mapping.world_size) == (2, 2, 4)
    assert (found.quant_algo, found.kv_cache_quant_algo) == ("NVFP4", "FP8")
    assert (found.ranks, found.missing_ranks) == ((0, 1, 3), (2,))


def test_defaults_are_those_of_the_format(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({
        "architecture": "QWenForCausalLM", "dtype": "float16", "num_hidden_layers": 1,
        "num_attention_heads": 1, "hidden_size": 8,
    }))  # fmt: skip
    found = read_rank_checkpoint(file)
    assert (found.mapping.world_size, found.logits_dtype, found.quant_algo) == (1, "float32", None)
    assert (found.ranks, found.missing_ranks) == ((), ())


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"pretrained_config": {}, "build_config": {}, "version": "1.2.1"}, "engine"),
        ({"pretrained_config": {}, "build_config": {}}, "engine"),
        ({"architecture": "X", "dtype": "float16"}, "rank_checkpoint"),
        ({"architectures": ["X"], "dtype": "float16"}, "hugging_face"),
        ({}, "hugging_face"),
    ],
)
def test_kinds_are_told_apart_by_their_keys(config: dict[str, object], kind: str, tmp_path: Path) -> None:
    assert recognize(config) == kind
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert is_engine(tmp_path) == (kind == "engine")
    assert is_rank_checkpoint(tmp_path / "config.json") == (kind == "rank_checkpoint")


def test_what_cannot_be_read_is_neither(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert not is_engine(tmp_path)
    assert not is_rank_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pretrained_config": {}, "build_config": {}}, "of an engine, not of a checkpoint"),
        ({"architectures": ["X"]}, "no TensorRT-LLM checkpoint"),
        ({"architecture": "X", "dtype": "y"}, "lacks num_hidden_layers, num_attention_heads, hidden_size"),
    ],
)
def test_what_is_no_checkpoint_says_why(content: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(EngineError, match=message) as raised:
        read_rank_checkpoint(tmp_path)
    assert raised.value.hint
