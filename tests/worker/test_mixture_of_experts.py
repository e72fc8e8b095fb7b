"""Routed experts, which transformers keeps in stacked tensors and an export one by one."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from bwdeploy.recipe.schema import FormatOverride, FormatSearch
from bwdeploy.worker.quantize import layer_widths
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny
from tests.worker.tiny_llama import make_tokenizer
from tests.worker.training.searches import search_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.jobs import AuditReport

BLOCKS = ("model.layers.0.mlp.experts", "model.layers.1.mlp.experts")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 mixture of four experts, two layers."""
    torch = import_module("torch")
    transformers = import_module("transformers")
    directory = tmp_path_factory.mktemp("experts")
    make_tokenizer(directory)
    config = transformers.Qwen3MoeConfig(
        vocab_size=384,
        hidden_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    transformers.Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    return directory


def errors(report: AuditReport) -> list[str]:
    return [finding.message for finding in report.findings if finding.severity == "error"]


def labels_of(checkpoint: Path) -> dict[str, str]:
    layers = json.loads((checkpoint / "hf_quant_config.json").read_text())["quantization"]["quantized_layers"]
    return {name: layer["quant_algo"] for name, layer in layers.items()}


def test_block_of_experts_is_a_layer(source: Path) -> None:
    model = import_module("transformers").AutoModelForCausalLM.from_pretrained(source)
    widths = layer_widths(model)
    assert {name: widths[name] for name in BLOCKS} == dict.fromkeys(BLOCKS, 32)
    assert "model.layers.0.mlp" not in widths


def test_override_gives_a_block_of_experts_its_format(source: Path, tmp_path: Path) -> None:
    overrides = (
        FormatOverride(modules="*.layers.0.mlp.experts", format="fp8"),
        FormatOverride(modules="*.layers.1.mlp.experts", format="none"),
    )
    quantize_tiny(source, tmp_path / "out", format="nvfp4", overrides=overrides)
    labels = labels_of(tmp_path / "out")
    assert labels[BLOCKS[0]] == "FP8"
    assert BLOCKS[1] not in labels
    report = audit_tiny(tmp_path / "out", source, evaluation=None)
    assert errors(report) == []
    assert report.dtype_census["F8_E4M3"]["tensors"] > report.dtype_census["U8"]["tensors"] > 0


def test_lost_expert_is_found(source: Path, tmp_path: Path) -> None:
    quantize_tiny(source, tmp_path / "out", format="nvfp4")
    files = import_module("safetensors.torch")
    path = tmp_path / "out/model.safetensors"
    lost = f"{BLOCKS[1]}.2.up_proj"
    kept = {name: tensor for name, tensor in files.load_file(path).items() if not name.startswith(lost)}
    files.save_file(kept, path, metadata={"format": "pt"})
    assert errors(audit_tiny(tmp_path / "out", source, evaluation=None)) == [f"{lost}.weight is missing"]


@pytest.mark.slow
def test_search_chooses_a_format_for_each_block_of_experts(source: Path, tmp_path: Path) -> None:
    search = FormatSearch(effective_bits=6.0, score_batches=1)
    searched = search_tiny(source, tmp_path, search=search)
    chosen = {group.modules: group.chosen for group in searched.result.sensitivity}
    assert len(chosen) == 6
    labels = labels_of(searched.out)
    assert {name: labels[name].lower() for name in BLOCKS} == {name: chosen[name,] for name in BLOCKS}
    assert searched.result.effective_bits is not None
    assert 4.5 < searched.result.effective_bits <= 6.0
    assert errors(audit_tiny(searched.out, source, evaluation=None)) == []
