from __future__ import annotations

import dataclasses
import errno
import filecmp
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.text_format import ParseError

import bwdeploy_runtime
from bwdeploy.errors import StoreError
from bwdeploy.facts.speculation import DRAFT_DIRECTORY
from bwdeploy.recipe.schema import Engine, Serve
from bwdeploy.serving.model_config import build_model_config, parse_pbtxt, refusals, to_pbtxt
from bwdeploy.serving.repository import RepositoryInputs, Runtime, write_repository
from bwdeploy_runtime import tensors
from bwdeploy_runtime.config import EngineConfig

RUNTIME = Path(bwdeploy_runtime.__file__).parent


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    (folder / "deeper").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "deeper" / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def inputs(checkpoint: Path, tmp_path: Path) -> RepositoryInputs:
    (tmp_path / "llm_args.yaml").write_text("max_batch_size: 8\n")
    serve = Serve(model_name="llama", flush_tokens=8, max_queued=3, chat_template=True)
    return RepositoryInputs(
        serve=serve,
        engine=Engine(max_seq_len=512),
        checkpoint=checkpoint,
        llm_args=tmp_path / "llm_args.yaml",
        trust_remote_code=True,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_the_runtime_is_copied_byte_for_byte(inputs: RepositoryInputs, out: Path) -> None:
    version = write_repository(out, inputs) / "1"
    assert filecmp.cmp(RUNTIME / "model.py", version / "model.py", shallow=False)
    sources = {
        path.relative_to(RUNTIME)
        for path in RUNTIME.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path != RUNTIME / "model.py"
    }
    copies = {
        path.relative_to(version / "bwdeploy_runtime")
        for path in (version / "bwdeploy_runtime").rglob("*")
        if path.is_file()
    }
    assert copies == sources
    assert all(
        filecmp.cmp(RUNTIME / name, version / "bwdeploy_runtime" / name, shallow=False) for name in copies
    )


def test_the_checkpoint_is_linked_not_copied(inputs: RepositoryInputs, out: Path, checkpoint: Path) -> None:
    version = write_repository(out, inputs) / "1"
    for name in ("model.safetensors", "deeper/tokenizer.json"):
        assert (version / "checkpoint" / name).samefile(checkpoint / name)


def test_the_draft_lies_where_the_arguments_name_it(
    inputs: RepositoryInputs, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "model.safetensors").write_bytes(b"draft")
    version = write_repository(out, dataclasses.replace(inputs, draft=tmp_path / "trained")) / "1"
    draft = version / DRAFT_DIRECTORY / "model.safetensors"
    assert draft.samefile(tmp_path / "trained" / "model.safetensors")


@pytest.mark.parametrize(("runtime", "variables"), [("tensorrt_llm", {"TLLM_X": "1"}), ("reference", {})])
def test_variables_reach_tensorrt_llm_only(
    inputs: RepositoryInputs, out: Path, runtime: Runtime, variables: dict[str, str]
) -> None:
    engine = Engine(environment={"TLLM_X": "1"})
    changed = dataclasses.replace(inputs, engine=engine, runtime=runtime)
    version = write_repository(out, changed) / "1"
    assert EngineConfig.from_json((version / "engine.json").read_text()).environment == variables


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_links_are_impossible_it_copies(
    inputs: RepositoryInputs, out: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(reason, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    version = write_repository(out, inputs) / "1"
    assert (version / "checkpoint" / "model.safetensors").read_bytes() == b"weights"


def test_a_link_in_the_checkpoint_is_refused(inputs: RepositoryInputs, out: Path, checkpoint: Path) -> None:
    (checkpoint / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match=r"config\.json is not a plain file"):
        write_repository(out, inputs)


def test_a_full_disk_is_a_store_error(
    inputs: RepositoryInputs, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "weights")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(StoreError, match="weights: No space left on device"):
        write_repository(out, inputs)


def test_engine_json_carries_the_recipe(inputs: RepositoryInputs, out: Path) -> None:
    version = write_repository(out, inputs) / "1"
    config = EngineConfig.from_json((version / "engine.json").read_text())
    assert (config.runtime, config.flush_tokens, config.max_queued) == ("tensorrt_llm", 8, 3)
    assert (config.max_seq_len, config.chat_template, config.trust_remote_code) == (512, True, True)
    assert config.llm_args is not None
    assert (version / config.llm_args).read_text() == "max_batch_size: 8\n"
    assert (version / config.checkpoint / "model.safetensors").is_file()


def test_the_kernel_pack_is_linked_and_named(inputs: RepositoryInputs, out: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    (pack / "lib").mkdir(parents=True)
    (pack / "manifest.json").write_text("{}")
    (pack / "lib" / "silu_mul_quant_fp8.so").write_bytes(b"code")
    with_pack = dataclasses.replace(inputs, kernels=pack, kernel_ops=("silu_mul_quant_fp8",))
    version = write_repository(out, with_pack) / "1"
    config = EngineConfig.from_json((version / "engine.json").read_text())
    assert config.kernel_ops == ("silu_mul_quant_fp8",)
    assert config.kernels is not None
    for name in ("manifest.json", "lib/silu_mul_quant_fp8.so"):
        assert (version / config.kernels / name).samefile(pack / name)


def test_without_kernels_there_is_no_pack(inputs: RepositoryInputs, out: Path) -> None:
    version = write_repository(out, inputs) / "1"
    config = EngineConfig.from_json((version / "engine.json").read_text())
    assert (config.kernels, config.kernel_ops) == (None, ())
    assert not (version / "kernels").exists()


@pytest.mark.parametrize("streaming", [True, False])
def test_config_pbtxt_says_what_the_model_is(out: Path, *, streaming: bool) -> None:
    serve = Serve(model_name="m", streaming=streaming)
    inputs = RepositoryInputs(serve=serve, engine=Engine(), checkpoint=None, llm_args=None, runtime="echo")
    config = parse_pbtxt((write_repository(out, inputs) / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("m", "python", 0)
    assert config.model_transaction_policy.decoupled is streaming
    assert [item.name for item in config.input] == [tensor.name for tensor in tensors.INPUTS]
    assert [item.name for item in config.input if not item.optional] == ["text_input"]
    assert [item.name for item in config.output] == [tensor.name for tensor in tensors.OUTPUTS]
    assert not config.HasField("dynamic_batching")


def test_broken_pbtxt_is_refused_with_its_place() -> None:
    with pytest.raises(ParseError, match="1:1"):
        parse_pbtxt("nam: 1")


def model_config() -> Any:
    return build_model_config("m", decoupled=True)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda config: config.__setattr__("name", "other"), "differs from its directory"),
        (lambda config: config.__setattr__("max_batch_size", -1), "below 0"),
        (lambda config: config.__setattr__("backend", ""), "no backend"),
        (lambda config: config.ClearField("input"), "has no input"),
        (lambda config: config.input.append(config.input[0]), "2 times"),
        (lambda config: config.output[0].ClearField("data_type"), "no data_type"),
        (lambda config: config.output[0].ClearField("dims"), "has dims"),
        (lambda config: config.output[0].dims.append(0), "has dims"),
        (lambda config: config.instance_group[0].__setattr__("count", -1), "count -1"),
        (lambda config: config.instance_group[0].gpus.append(0), "names gpus"),
        (lambda config: config.dynamic_batching.preferred_batch_size.append(4), "dynamic_batching"),
        (lambda config: config.response_cache.__setattr__("enable", True), "response_cache"),
    ],
)
def test_what_a_server_would_refuse_is_found(change: Any, wanted: str) -> None:
    config = model_config()
    assert refusals(config, directory_name="m") == ()
    change(config)
    assert any(wanted in refusal for refusal in refusals(config, directory_name="m"))


def test_printing_is_stable() -> None:
    assert to_pbtxt(model_config()) == to_pbtxt(parse_pbtxt(to_pbtxt(model_config())))


@pytest.mark.parametrize("first", ["bwdeploy.serving.model_config", "tritonclient.grpc"])
def test_the_message_is_shared_with_tritonclient_in_either_order(first: str) -> None:
    second = "tritonclient.grpc" if "model_config" in first else "bwdeploy.serving.model_config"
    code = (
        f"import {first}\n"
        "from bwdeploy.serving.model_config import build_model_config\n"
        "config = build_model_config('m', decoupled=True)\n"
        f"import {second}\n"
        "from tritonclient.grpc import model_config_pb2\n"
        "assert isinstance(config, model_config_pb2.ModelConfig)\n"
        "assert build_model_config('m', decoupled=True) == config\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_writing_a_repository_does_not_import_grpc() -> None:
    assert importlib.util.find_spec("grpc")
    code = (
        "import sys\n"
        "from bwdeploy.serving.model_config import build_model_config\n"
        "import bwdeploy.serving.repository\n"
        "build_model_config('m', decoupled=True)\n"
        "assert not {'grpc', 'numpy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
