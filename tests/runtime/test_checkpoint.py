from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_runtime import formats
from bwdeploy_runtime.checkpoint import CheckpointError, load_model
from tests.worker.tiny_llama import make_tiny_llama

DOWN = "model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "copy"))


def tensors_of(directory: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = import_module("safetensors.torch").load_file(
        directory / "model.safetensors"
    )
    return {name: tensor.clone() for name, tensor in loaded.items()}


def write(directory: Path, tensors: dict[str, torch.Tensor], **quantization: Any) -> None:
    save = import_module("safetensors.torch").save_file
    save(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    if quantization:
        section = {"quantization": quantization}
        (directory / "hf_quant_config.json").write_text(json.dumps(section))
        config = json.loads((directory / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "modelopt"} | quantization
        (directory / "config.json").write_text(json.dumps(config))


def to_fp8(directory: Path, input_scale: float = 0.01) -> torch.Tensor:
    """Replace one weight by FP8 codes; what they mean in float32."""
    tensors = tensors_of(directory)
    weight = tensors[f"{DOWN}.weight"].float()
    scale = weight.abs().amax() / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    tensors |= {
        f"{DOWN}.weight": codes,
        f"{DOWN}.weight_scale": scale,
        f"{DOWN}.input_scale": torch.tensor(input_scale),
    }
    write(directory, tensors, quant_algo="FP8", kv_cache_quant_algo=None, exclude_modules=["lm_head"])
    return codes.float() * scale


def test_plain_checkpoint_loads_like_transformers_does(plain: Path) -> None:
    model, info = load_model(plain)
    reference = import_module("transformers").AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, reference.eval()(tokens).logits)
    assert (info.quant_algo, info.quantized_weights, info.emulated_inputs) == (None, 0, 0)
    assert info.parameters == 110912


def test_quantized_weight_is_dequantized_exactly(copy: Path) -> None:
    expected = to_fp8(copy)
    model, info = load_model(copy, emulate_activations=False)
    assert torch.equal(model.get_submodule(DOWN).weight, expected)
    assert (info.quant_algo, info.quantized_weights, info.emulated_inputs) == ("FP8", 1, 0)


def test_emulation_rounds_the_input_of_quantized_layers_only(copy: Path) -> None:
    weight = to_fp8(copy)
    model, info = load_model(copy, emulate_activations=True)
    values = torch.randn(2, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rounded = formats.fake_quantize_fp8(values, torch.tensor(0.01))
        assert torch.equal(model.get_submodule(DOWN)(values), rounded @ weight.T)
        up = model.get_submodule("model.layers.0.mlp.up_proj")
        assert torch.equal(up(values[:, :64]), values[:, :64] @ up.weight.T)
    assert info.emulated_inputs == 1


def test_smoothing_vector_is_applied_with_and_without_emulation(copy: Path) -> None:
    weight = to_fp8(copy)
    tensors = tensors_of(copy) | {f"{DOWN}.pre_quant_scale": torch.full((160,), 2.0, dtype=torch.bfloat16)}
    write(copy, tensors)
    model, _ = load_model(copy, emulate_activations=False)
    values = torch.ones(1, 160)
    with torch.no_grad():
        assert torch.equal(model.get_submodule(DOWN)(values), (2 * values) @ weight.T)


def test_model_generates_from_a_quantized_checkpoint(copy: Path) -> None:
    to_fp8(copy)
    model: Any = load_model(copy)[0]
    answer = model.generate(torch.tensor([[1, 5, 9]]), max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > 3


def failure(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(directory)
    return str(caught.value)


def test_missing_tensor_is_named(copy: Path) -> None:
    tensors = tensors_of(copy)
    del tensors["model.norm.weight"]
    write(copy, tensors)
    assert "lacks model.norm.weight" in failure(copy)


def test_foreign_tensor_is_named(copy: Path) -> None:
    write(copy, tensors_of(copy) | {"visual.proj.weight": torch.ones(2)})
    assert "visual.proj.weight" in failure(copy)


def test_prediction_layers_after_the_model_s_own_are_left_out(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    layer = f"model.layers.{config['num_hidden_layers']}.eh_proj.weight"
    write(copy, tensors_of(copy) | {layer: torch.ones(4, 4)})
    assert f"holds {layer}" in failure(copy)
    (copy / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    load_model(copy)
    write(copy, tensors_of(copy) | {layer.replace(".2.", ".3."): torch.ones(4, 4)})
    assert "model.layers.3.eh_proj.weight" in failure(copy)


def test_wrong_shape_is_named(copy: Path) -> None:
    write(copy, tensors_of(copy) | {"model.norm.weight": torch.ones(3, dtype=torch.bfloat16)})
    assert "model.norm.weight has shape (3,)" in failure(copy)


def test_packed_weight_without_scale_is_named(copy: Path) -> None:
    to_fp8(copy)
    tensors = tensors_of(copy)
    del tensors[f"{DOWN}.weight_scale"]
    write(copy, tensors)
    assert f"has no {DOWN}.weight_scale" in failure(copy)


def test_scale_that_does_not_fit_is_named(copy: Path) -> None:
    to_fp8(copy)
    write(copy, tensors_of(copy) | {f"{DOWN}.weight_scale": torch.ones(7)})
    assert f"{DOWN}.weight" in failure(copy)


def test_unknown_algorithm_is_named(copy: Path) -> None:
    to_fp8(copy)
    (copy / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "W3A5"}}))
    assert "'W3A5'" in failure(copy)


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"\xff" * 100, b"\x80\x04K\x01."])
def test_file_that_is_no_safetensors_is_refused(content: bytes, copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(content)
    assert "truncated or is no safetensors file" in failure(copy)


def test_pickled_weights_are_never_opened(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "holds no *.safetensors file" in failure(copy)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "absent.safetensors"])
def test_index_may_name_only_files_of_its_directory(name: str, copy: Path) -> None:
    index = {"weight_map": {"model.norm.weight": name}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "not a file of that directory" in failure(copy)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "nonesuch"}'])
def test_unusable_config_is_refused(content: str, copy: Path) -> None:
    (copy / "config.json").write_text(content)
    assert str(copy) in failure(copy)
