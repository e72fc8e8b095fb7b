"""Headers of a checkpoint's files are the truth; estimates of real exports hold to the byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.facts.formats import format_table
from bwdeploy.model.describe import DescribedModel, describe_source
from bwdeploy.planner.memory import plan_memory
from tests.planner.planned import SMALL_LLAMA, recipe
from tests.worker.jobs_in_process import quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

EVERY_DENSE_FORMAT = [
    word for word, facts in format_table().formats.items() if facts.modules != "routed experts"
]


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


def describe(directory: Path) -> DescribedModel:
    return describe_source(f"file://{directory}")


def exported(source: Path, out: Path, **changes: Any) -> Path:
    quantize_tiny(source, out, **changes)
    return out


def error_of(source: Path, quantize: dict[str, Any], *, checkpoint: Path | None = None) -> float | None:
    plan = plan_memory(recipe(quantize=quantize), describe(source), checkpoint=checkpoint)
    assert plan is not None
    return plan.checkpoint.estimate_error


@pytest.mark.slow
@pytest.mark.parametrize("kv_cache", ["none", "fp8"])
@pytest.mark.parametrize("word", EVERY_DENSE_FORMAT)
def test_every_format_is_estimated_to_the_byte(
    word: str, kv_cache: str, tiny_llama: Path, tmp_path: Path
) -> None:
    out = exported(tiny_llama, tmp_path / "out", format=word, kv_cache=kv_cache)
    assert error_of(tiny_llama, {"format": word, "kv_cache": kv_cache}, checkpoint=out) == 0
    assert error_of(out, {"method": "prequantized"}) == 0


@pytest.mark.slow
def test_a_mixed_checkpoint_is_estimated_to_the_byte(tiny_llama: Path, tmp_path: Path) -> None:
    overrides = [{"modules": "*.self_attn.*", "format": "fp8"}, {"modules": "*.layers.0.*", "format": "none"}]
    settings = {"format": "nvfp4", "overrides": overrides}
    given = recipe(quantize=settings).quantize.overrides
    out = exported(tiny_llama, tmp_path / "out", format="nvfp4", overrides=given)
    assert error_of(tiny_llama, settings, checkpoint=out) == 0
    assert error_of(out, {"method": "prequantized"}) == 0


def quantized_directory(directory: Path, payload: int) -> Path:
    """A directory that says NVFP4, with one tensor of `payload` bytes."""
    config = SMALL_LLAMA | {"num_hidden_layers": 1}
    (directory / "config.json").write_text(json.dumps(config))
    quantization = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}
    (directory / "hf_quant_config.json").write_text(json.dumps(quantization))
    tensor = {"w": {"dtype": "U8", "shape": [payload], "data_offsets": [0, payload]}}
    header = json.dumps(tensor).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(payload))
    return directory


def test_headers_replace_the_estimate_and_the_plan_says_how_far_it_was(tmp_path: Path) -> None:
    model = describe(quantized_directory(tmp_path, 50_000))
    plan = plan_memory(recipe(quantize={"method": "prequantized"}), model)
    assert plan is not None
    assert plan.checkpoint_bytes == 50_000
    error = plan.checkpoint.estimated_bytes / 50_000 - 1
    assert any(note.endswith(f"the estimate was {error:+.2%}") for note in plan.notes)


def test_a_damaged_file_leaves_the_estimate(tmp_path: Path) -> None:
    directory = quantized_directory(tmp_path, 50_000)
    (directory / "model.safetensors").write_bytes(b"\xff" * 64)
    plan = plan_memory(recipe(quantize={"method": "prequantized"}), describe(directory))
    assert plan is not None
    assert plan.checkpoint_bytes == plan.checkpoint.estimated_bytes


def test_an_unquantized_source_is_no_checkpoint(tmp_path: Path) -> None:
    directory = quantized_directory(tmp_path, 50_000)
    (directory / "hf_quant_config.json").unlink()
    plan = plan_memory(recipe(), describe(directory))
    assert plan is not None
    assert plan.checkpoint.header_bytes is None
