from __future__ import annotations

import json
import stat
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.facts.formats import format_table
from bwdeploy.recipe.schema import Calibration, FormatOverride
from tests.worker.jobs_in_process import SMALL, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

if TYPE_CHECKING:
    from pathlib import Path

DENSE_FORMATS = [word for word, facts in format_table().formats.items() if facts.modules != "routed experts"]
MAX_CALIBRATED = ["nvfp4", "nvfp4_mlp_only", "nvfp4_weight_only", "w4a8_nvfp4_fp8", "w4a8_mxfp4_fp8", "fp8"]


def tensors_of(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = import_module("safetensors.torch").load_file(directory / "model.safetensors")
    return loaded


def same_bytes(first: dict[str, Any], second: dict[str, Any]) -> bool:
    torch = import_module("torch")
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and torch.equal(first[name].reshape(-1).view(torch.uint8), second[name].reshape(-1).view(torch.uint8))
        for name in first
    )


@pytest.mark.parametrize("word", DENSE_FORMATS)
def test_every_format_exports_a_complete_checkpoint(word: str, tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = quantize_tiny(tiny_llama, out, format=word)
    facts = format_table().formats[word]
    assert result.quant_algo == facts.quant_algo
    assert result.quantized_modules == (
        14 if facts.modules == "all" else 8 if "output" in facts.modules else 6
    )
    assert bool(result.calibration_tokens) == facts.calibrated
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (tiny_llama / name).read_bytes()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in out.iterdir())
    config = json.loads((out / "config.json").read_text())
    assert config["rope_theta"] == 50000.0
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"
    wide = {name for name, tensor in tensors_of(out).items() if str(tensor.dtype) == "torch.float32"}
    assert all(name.endswith(("_scale", "_scale_2")) for name in wide)


@pytest.mark.parametrize("word", MAX_CALIBRATED)
def test_export_is_byte_identical_to_plain_modelopt(word: str, tiny_llama: Path, tmp_path: Path) -> None:
    quantize_tiny(tiny_llama, tmp_path / "ours", format=word)
    plain_modelopt(word, tiny_llama, tmp_path / "plain")
    assert same_bytes(tensors_of(tmp_path / "ours"), tensors_of(tmp_path / "plain"))


def plain_modelopt(word: str, source: Path, out: Path) -> None:
    """The same quantization by hand: public API, no backend, no patch, nothing repaired."""
    torch = import_module("torch")
    mtq = import_module("modelopt.torch.quantization")
    transformers = import_module("transformers")
    calibration = import_module("bwdeploy.worker.calibration")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    wanted = calibration.TextRequest(
        section="",
        dataset=SMALL.dataset,
        text_field=None,
        samples=SMALL.samples,
        seq_len=SMALL.seq_len,
        seed=SMALL.seed,
        part="calibration",
    )
    sequences = calibration.token_sequences(wanted, tokenizer)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    preset = getattr(mtq, format_table().formats[word].preset)

    def forward(live: Any) -> None:
        for batch in sequences.split(SMALL.batch_size):
            live(batch)

    with torch.no_grad():
        mtq.quantize(model, preset, forward)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        import_module("modelopt.torch.export").export_hf_checkpoint(
            model, dtype=torch.bfloat16, export_dir=out
        )


def test_same_request_gives_same_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    quantize_tiny(tiny_llama, tmp_path / "one", format="nvfp4_awq_lite")
    quantize_tiny(tiny_llama, tmp_path / "two", format="nvfp4_awq_lite")
    assert same_bytes(tensors_of(tmp_path / "one"), tensors_of(tmp_path / "two"))


@pytest.mark.parametrize("word", ["fp8", "nvfp4"])
def test_kv_cache_scales_are_exported_and_nothing_else_is_switched_on(
    word: str, tiny_llama: Path, tmp_path: Path
) -> None:
    result = quantize_tiny(tiny_llama, tmp_path / "out", format="nvfp4_mlp_only", kv_cache=word)
    assert result.kv_cache_quant_algo == word.upper()
    assert result.quantized_modules == 6
    names = tensors_of(tmp_path / "out").keys()
    assert sum(name.endswith(("k_proj.k_scale", "v_proj.v_scale")) for name in names) == 4


def test_weight_only_format_needs_no_calibration_text(tiny_llama: Path, tmp_path: Path) -> None:
    missing = Calibration(dataset="file:///nowhere/at/all.jsonl")
    result = quantize_tiny(tiny_llama, tmp_path / "out", format="nvfp4_weight_only", calibration=missing)
    assert result.calibration_tokens == 0


def test_override_none_keeps_layers_in_bf16(tiny_llama: Path, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.layers.0.*", format="none")
    result = quantize_tiny(
        tiny_llama, tmp_path / "out", format="nvfp4", kv_cache="fp8", overrides=(override,)
    )
    assert result.quantized_modules == 7
    assert str(tensors_of(tmp_path / "out")["model.layers.0.mlp.up_proj.weight"].dtype) == "torch.bfloat16"
    # The pattern names linear layers, so the KV cache of that layer stays quantized.
    assert "model.layers.0.self_attn.k_proj.k_scale" in tensors_of(tmp_path / "out")


def test_override_mixes_formats_by_pattern(tiny_llama: Path, tmp_path: Path) -> None:
    override = FormatOverride(modules="*.self_attn.*", format="fp8")
    result = quantize_tiny(tiny_llama, tmp_path / "out", format="nvfp4", overrides=(override,))
    tensors = tensors_of(tmp_path / "out")
    assert result.quant_algo == "MIXED_PRECISION"
    assert str(tensors["model.layers.1.self_attn.o_proj.weight"].dtype) == "torch.float8_e4m3fn"
    assert str(tensors["model.layers.1.mlp.up_proj.weight"].dtype) == "torch.uint8"


def refused(source: Path, out: Path, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        quantize_tiny(source, out, **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (FormatOverride(modules="*.atention.*", format="none"), ["matches no linear layer", "for example"]),
        (FormatOverride(modules="*.q_proj", format="none"), ["fuse them into one matrix", "q_proj"]),
        (FormatOverride(modules="lm_head", format="fp8"), ["quantizes none of the 1 layers"]),
        (FormatOverride(modules="*", format="nvfp4_awq_lite"), ["calibration algorithm of its own"]),
        (FormatOverride(modules="*", format="nvfp4_four_over_six"), ["calibration algorithm of its own"]),
    ],
)
def test_impossible_override_is_refused(
    override: FormatOverride, words: list[str], tiny_llama: Path, tmp_path: Path
) -> None:
    message = refused(tiny_llama, tmp_path / "out", format="fp8", overrides=(override,))
    assert "quantize.overrides" in message
    assert all(word in message for word in words)


def test_format_that_quantizes_nothing_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    message = refused(tiny_llama, tmp_path / "out", format="nvfp4_experts_only")
    assert "quantizes nothing in this model" in message


def test_width_that_the_group_cannot_divide_is_refused_before_calibration(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    odd = make_tiny_llama(tmp_path / "source", intermediate_size=168)
    message = refused(odd, tmp_path / "out", format="nvfp4")
    assert "mlp.down_proj has 168 input features, not a multiple of the format's group of 16" in message


def test_quantized_source_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    quantize_tiny(tiny_llama, tmp_path / "first", format="fp8")
    message = refused(tmp_path / "first", tmp_path / "second", format="fp8")
    assert "already quantized" in message
    assert "prequantized" in message


def test_modelopt_recipe_by_name(tiny_llama: Path, tmp_path: Path) -> None:
    result = quantize_tiny(tiny_llama, tmp_path / "out", recipe="general/ptq/nvfp4_mlp_only-kv_fp8")
    assert (result.quant_algo, result.kv_cache_quant_algo) == ("NVFP4", "FP8")


def test_modelopt_recipe_from_a_file(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "metadata: {recipe_type: ptq, description: mine}\n"
        "quantize:\n"
        "  algorithm: max\n"
        "  quant_cfg:\n"
        "    - {quantizer_name: '*', enable: false}\n"
        "    - {quantizer_name: '*down_proj.weight_quantizer', cfg: {num_bits: [4, 3]}}\n"
    )
    result = quantize_tiny(tiny_llama, tmp_path / "out", recipe=f"file://{recipe}")
    assert result.quantized_modules == 2


@pytest.mark.parametrize("name", ["general/ptq/nvfp4_defalt-kv_fp8", "../../../etc/passwd", "/etc/passwd"])
def test_unknown_modelopt_recipe_is_refused_and_never_looked_up_in_the_file_system(
    name: str, tiny_llama: Path, tmp_path: Path
) -> None:
    message = refused(tiny_llama, tmp_path / "out", recipe=name)
    assert "ModelOpt has no recipe" in message
    assert ("nvfp4_default-kv_fp8" in message) == name.startswith("general")


def test_damaged_recipe_file_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("metadata: {recipe_type: ptq}\nquantize: {algorithm: max, quant_cfgs: []}\n")
    assert "quantize.recipe" in refused(tiny_llama, tmp_path / "out", recipe=f"file://{recipe}")
