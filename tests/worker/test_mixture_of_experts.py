"""Routed experts, which transformers keeps in stacked tensors and an export one by one."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.recipe.schema import Evaluation, FormatOverride, FormatSearch
from bwdeploy.worker.quantize import layer_widths
from bwdeploy_runtime.checkpoint import load_model
from tests.worker.jobs_in_process import audit_tiny, compare_tiny, quantize_tiny
from tests.worker.tiny_llama import make_tokenizer
from tests.worker.training.searches import search_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.jobs import AuditReport

BLOCKS = ("model.layers.0.mlp.experts", "model.layers.1.mlp.experts")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 mixture of four experts, two layers."""
    directory = tmp_path_factory.mktemp("experts")
    return make_mixture(directory, "Qwen3Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)


def make_mixture(directory: Path, family: str, **changes: Any) -> Path:
    """Write a random mixture of this family of transformers with a tokenizer."""
    torch = import_module("torch")
    transformers = import_module("transformers")
    make_tokenizer(directory)
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": 384,
            "hidden_size": 64,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 256,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        }
        | changes
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.dim() > 1 else 1.0)  # so that rounding changes the logits
    model.to(torch.bfloat16).save_pretrained(directory)
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
    _, info = load_model(tmp_path / "out")
    assert info.emulated_inputs == 2 * 4 + 4 * 3  # attention of both layers, the experts of one
    assert report.dtype_census["F8_E4M3"]["tensors"] > report.dtype_census["U8"]["tensors"] > 0


def test_lost_expert_is_found(source: Path, tmp_path: Path) -> None:
    quantize_tiny(source, tmp_path / "out", format="nvfp4")
    files = import_module("safetensors.torch")
    path = tmp_path / "out/model.safetensors"
    lost = f"{BLOCKS[1]}.2.up_proj"
    kept = {name: tensor for name, tensor in files.load_file(path).items() if not name.startswith(lost)}
    files.save_file(kept, path, metadata={"format": "pt"})
    assert errors(audit_tiny(tmp_path / "out", source, evaluation=None)) == [f"{lost}.weight is missing"]


def logits_of(model: Any) -> Any:
    torch = import_module("torch")
    tokens = torch.randint(3, 384, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=tokens).logits


FAMILIES = (
    pytest.param(
        "Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}, id="Qwen3"
    ),
    pytest.param("Mixtral", {"num_local_experts": 4}, id="Mixtral, stored under names of its own"),
    pytest.param(
        "DeepseekV3",
        {
            "n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 32, "kv_lora_rank": 32,
            "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "num_key_value_heads": 4,
        },
        id="DeepSeek, with shared experts and a dense layer",
        marks=pytest.mark.slow,
    ),
    pytest.param("GptOss", {"num_local_experts": 4}, id="gpt-oss, stored in stacks", marks=pytest.mark.slow),
)  # fmt: skip


@pytest.mark.parametrize(("family", "changes"), FAMILIES)
def test_experts_are_read_as_transformers_reads_them(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    torch, transformers = import_module("torch"), import_module("transformers")
    directory = make_mixture(tmp_path, family, **changes)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    ours, _ = load_model(directory)
    torch.testing.assert_close(logits_of(ours), logits_of(theirs))


def test_quantized_experts_are_compared_with_their_source(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quantize_tiny(source, tmp_path / "out", format="nvfp4")
    text = compare_tiny(tmp_path / "out", source, evaluation=Evaluation(samples=8, seq_len=64)).text
    assert text is not None
    assert text.activations == "quantized"
    assert 0 < sum(text.kl_divergence) / 8 < 1
    _, info = load_model(tmp_path / "out")
    assert info.emulated_inputs == info.quantized_weights == 2 * (4 + 4 * 3)


@pytest.mark.slow
def test_quantized_experts_under_names_of_their_own_pass_the_audit(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = make_mixture(tmp_path / "source", "Mixtral", num_local_experts=4)
    quantize_tiny(source, tmp_path / "out", format="nvfp4")
    report = audit_tiny(tmp_path / "out", source)
    assert errors(report) == []
    assert report.quantized_perplexity is not None


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
