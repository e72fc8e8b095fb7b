from __future__ import annotations

import json
import math
import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.facts.formats import format_table
from bwdeploy.recipe.schema import Evaluation, FormatOverride
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import AuditReport

DENSE_FORMATS = [word for word, facts in format_table().formats.items() if facts.modules != "routed experts"]
Tensors = dict[str, Any]
UP = "model.layers.0.mlp.up_proj"
K = "model.layers.1.self_attn.k_proj"


@pytest.fixture(scope="module")
def exported(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Exports by format and KV word, each made once."""
    root = tmp_path_factory.mktemp("exports")

    def export(word: str, kv_cache: str = "none") -> Path:
        out = root / f"{word}-{kv_cache}"
        if not out.exists():
            quantize_tiny(tiny_llama, out, format=word, kv_cache=kv_cache)
        return out

    return export


@pytest.fixture
def checkpoint(exported: Callable[[str, str], Path], tmp_path: Path) -> Path:
    """A private copy of an NVFP4 checkpoint with FP8 KV cache, to be damaged."""
    return Path(shutil.copytree(exported("nvfp4", "fp8"), tmp_path / "checkpoint"))


def problems(report: AuditReport) -> dict[str, str]:
    return {finding.check: finding.message for finding in report.findings if finding.severity != "info"}


def audit_nvfp4(checkpoint: Path, source: Path) -> AuditReport:
    return audit_tiny(checkpoint, source, format="nvfp4", kv_cache="fp8")


def change_tensors(checkpoint: Path, change: Callable[[Tensors], None]) -> None:
    files = import_module("safetensors.torch")
    path = checkpoint / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in files.load_file(path).items()}
    change(tensors)
    files.save_file(tensors, path, metadata={"format": "pt"})


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    for name, value in changes.items():
        if value is None:
            content.pop(name, None)
        else:
            content[name] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("word", DENSE_FORMATS)
def test_every_export_of_ours_is_clean(word: str, exported: Callable[..., Path], tiny_llama: Path) -> None:
    evaluation = Evaluation(samples=4, seq_len=64)
    report = audit_tiny(exported(word), tiny_llama, format=word, evaluation=evaluation)
    facts = format_table().formats[word]
    assert problems(report) == {}
    assert report.parameters == 110912
    assert report.compared_tensors == len(report.tensor_errors) >= 15
    assert 0.02 < report.worst_tensors[0].relative_error < 0.16
    assert report.activations == ("unquantized" if facts.activations == "none" else "quantized")
    assert report.source_perplexity is not None
    assert report.quantized_perplexity is not None
    assert report.quantized_perplexity / report.source_perplexity == pytest.approx(1, abs=0.1)
    assert report.evaluated_tokens == 4 * 63


def test_mixed_precision_export_is_clean(tiny_llama: Path, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.self_attn.*", format="fp8")
    quantize_tiny(tiny_llama, tmp_path / "out", format="nvfp4", overrides=(override,))
    report = audit_tiny(tmp_path / "out", tiny_llama, format="nvfp4")
    assert problems(report) == {}
    assert report.quant_algo == "MIXED_PRECISION"


def test_unquantized_checkpoint_has_identical_perplexities_and_no_error(tiny_llama: Path) -> None:
    report = audit_tiny(tiny_llama, tiny_llama)
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    assert report.source_perplexity == report.quantized_perplexity
    assert report.bits_per_parameter == 16
    assert report.bits_per_quantized_parameter is None
    assert report.worst_tensors[0].relative_error == 0


def test_prequantized_checkpoint_is_audited_without_a_source(
    exported: Callable[..., Path], tiny_llama: Path
) -> None:
    alone = audit_tiny(exported("nvfp4"), None, format="nvfp4")
    beside = audit_tiny(exported("nvfp4"), tiny_llama, format="nvfp4")
    assert problems(alone) == {}
    assert (alone.source_perplexity, alone.compared_tensors) == (None, 0)
    assert alone.quantized_perplexity == beside.quantized_perplexity


def test_unreadable_source_is_an_error_of_its_own(exported: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="The source model cannot be read"):
        audit_tiny(exported("fp8"), tmp_path, format="fp8")


def swap_nibbles(tensors: Tensors) -> None:
    weight = tensors[f"{UP}.weight"]
    tensors[f"{UP}.weight"] = (weight << 4) | (weight >> 4)


def test_swapped_nibbles_show_as_an_enormous_weight_error(checkpoint: Path, tiny_llama: Path) -> None:
    change_tensors(checkpoint, swap_nibbles)
    report = audit_nvfp4(checkpoint, tiny_llama)
    assert report.worst_tensors[0].name == f"{UP}.weight"
    assert report.worst_tensors[0].relative_error > 1.2


def set_value(name: str, value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        flat = tensors[name].float().reshape(-1)
        flat[0] = value
        tensors[name] = flat.reshape(tensors[name].shape).to(tensors[name].dtype)

    return change


def fill(name: str, value: float) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update(
        {name: import_module("torch").full_like(tensors[name].float(), value).to(tensors[name].dtype)}
    )


def drop(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[name]

    return change


def widen(tensors: Tensors) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()


def add_stray(tensors: Tensors) -> None:
    tensors["model.layers.7.mlp.up_proj.weight"] = tensors["model.norm.weight"].clone()


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (set_value(f"{UP}.weight_scale", math.nan), "scale-not-finite", f"{UP}.weight_scale"),
        (set_value(f"{UP}.input_scale", math.inf), "scale-not-finite", f"{UP}.input_scale"),
        (set_value(f"{UP}.weight_scale", 0.0), "scale-not-positive", "1 zero"),
        (set_value(f"{UP}.weight_scale_2", -1.0), "scale-not-positive", f"{UP}.weight_scale_2"),
        (fill(f"{UP}.weight_scale", 8.0), "scale-constant", "scales of"),
        (set_value(f"{UP}.input_scale", 3.0), "fused-scales-differ", "gate_proj,up_proj"),
        (set_value("model.norm.weight", math.nan), "weight-not-finite", "model.norm.weight"),
        (set_value("model.norm.weight", 7.0), "plain-tensor-changed", "model.norm.weight"),
        (drop(f"{UP}.input_scale"), "input-scale-missing", UP),
        (drop(f"{UP}.weight_scale"), "layout-unknown", f"{UP}.weight"),
        (drop(f"{UP}.weight_scale_2"), "weight-unreadable", f"{UP}.weight_scale_2"),
        (drop(f"{K}.k_scale"), "kv-scale-missing", f"{K}.k_scale"),
        (drop("model.norm.weight"), "tensor-missing", "model.norm.weight"),
        (add_stray, "tensor-unexpected", "layers.7"),
        (widen, "float32-leftover", "model.norm.weight"),
    ],
)
def test_damaged_tensor_is_found(
    change: Callable[[Tensors], None], check: str, words: str, checkpoint: Path, tiny_llama: Path
) -> None:
    change_tensors(checkpoint, change)
    found = problems(audit_nvfp4(checkpoint, tiny_llama))
    assert words in found[check]


def test_truncated_file_is_reported_not_raised(checkpoint: Path, tiny_llama: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    report = audit_nvfp4(checkpoint, tiny_llama)
    assert "truncated" in problems(report)["checkpoint-unreadable"]
    assert report.quantized_perplexity is None


def test_missing_weights_are_reported(checkpoint: Path, tiny_llama: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    assert "no *.safetensors file" in problems(audit_nvfp4(checkpoint, tiny_llama))["checkpoint-unreadable"]


def test_index_that_points_outside_is_reported(checkpoint: Path, tiny_llama: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../elsewhere.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    message = problems(audit_nvfp4(checkpoint, tiny_llama))["checkpoint-unreadable"]
    assert "not a file of that directory" in message


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"rope_theta": None}, "rope-theta-missing"),
        ({"num_key_value_heads": 4}, "shape-differs"),
        ({"intermediate_size": 144}, "shape-differs"),
        ({"vocab_size": 385}, "shape-differs"),
        ({"model_type": "nonesuch"}, "checkpoint-unreadable"),
        ({"quantization_config": None}, "quantization-config-missing"),
    ],
)
def test_wrong_config_is_found(
    changes: dict[str, Any], check: str, checkpoint: Path, tiny_llama: Path
) -> None:
    change_json(checkpoint / "config.json", **changes)
    assert check in problems(audit_nvfp4(checkpoint, tiny_llama))


@pytest.mark.parametrize(
    ("excluded", "check"),
    [
        (["lm_head", "model.embed_tokens", "*.experts.*"], "exclusion-matches-nothing"),
        (["lm_head", "*.self_attn.*"], "exclusion-contradicted"),
    ],
)
def test_wrong_exclusions_are_found(
    excluded: list[str], check: str, checkpoint: Path, tiny_llama: Path
) -> None:
    path = checkpoint / "hf_quant_config.json"
    content = json.loads(path.read_text())
    content["quantization"]["exclude_modules"] = excluded
    path.write_text(json.dumps(content))
    assert check in problems(audit_nvfp4(checkpoint, tiny_llama))


def test_plain_layer_that_is_not_excluded_is_found(
    exported: Callable[..., Path], tiny_llama: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(exported("nvfp4_mlp_only"), tmp_path / "copy"))
    path = copy / "hf_quant_config.json"
    content = json.loads(path.read_text())
    content["quantization"]["exclude_modules"] = ["lm_head"]
    path.write_text(json.dumps(content))
    found = problems(audit_tiny(copy, tiny_llama, format="nvfp4_mlp_only"))
    assert "layer-not-quantized" in found


def with_prediction_layer(directory: Path) -> Path:
    change_json(directory / "config.json", num_nextn_predict_layers=1)
    change_tensors(
        directory,
        lambda tensors: tensors.update(
            {"model.layers.2.eh_proj.weight": tensors["model.norm.weight"].repeat(128, 1)}
        ),
    )
    return directory


def test_layers_for_speculative_decoding_belong_to_the_checkpoint(checkpoint: Path, tiny_llama: Path) -> None:
    found = problems(audit_nvfp4(with_prediction_layer(checkpoint), tiny_llama))
    assert "tensor-unexpected" not in found


def test_lost_layers_for_speculative_decoding_are_a_warning(
    checkpoint: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    source = with_prediction_layer(Path(shutil.copytree(tiny_llama, tmp_path / "source")))
    change_json(checkpoint / "config.json", num_nextn_predict_layers=1)
    found = problems(audit_nvfp4(checkpoint, source))
    assert "tensor-missing" not in found
    assert found["prediction-layers-missing"].startswith("1 tensors of the source's multi-token")


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("tokenizer.json", "tokenizer-missing"),
        ("chat_template.jinja", "chat-template-missing"),
        ("generation_config.json", "generation-config-missing"),
    ],
)
def test_missing_file_is_found(name: str, check: str, checkpoint: Path, tiny_llama: Path) -> None:
    (checkpoint / name).unlink()
    assert check in problems(audit_nvfp4(checkpoint, tiny_llama))


def test_unreadable_mode_and_tokenizer_class_are_found(checkpoint: Path, tiny_llama: Path) -> None:
    (checkpoint / "model.safetensors").chmod(0o600)
    change_json(checkpoint / "tokenizer_config.json", tokenizer_class="TokenizersBackend")
    found = problems(audit_nvfp4(checkpoint, tiny_llama))
    assert "0600" in found["file-mode"]
    assert "transformers 4" in found["tokenizer-class"]


def test_promise_of_another_format_is_noticed(exported: Callable[..., Path], tiny_llama: Path) -> None:
    found = problems(audit_tiny(exported("fp8"), tiny_llama, format="nvfp4", kv_cache="fp8"))
    assert "is NVFP4, the checkpoint says FP8" in found["algorithm-differs"]
    assert "8.0" in found["bits-differ"]
    assert "kv-cache-differs" in found
