"""A tiny Llama checkpoint with a tokenizer of its own, and directories in which the engine process runs."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import bwdeploy_kernels
import bwdeploy_runtime
from bwdeploy_runtime.stub.process import PYTHON_VARIABLE
from tests.kernel_pack.packs import NORM_FP8, SILU_FP8, write_pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy_runtime.config import EngineConfig

KERNEL_OPS = (NORM_FP8, SILU_FP8)
CHAT_TEMPLATE = "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}<answer>"
SAMPLE = "the quick brown fox jumps over the lazy dog. 東京 is a city; a world is round."


@pytest.fixture(scope="session")
def byte_level_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SAMPLE], trainer)
    return tokenizer


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, byte_level_tokenizer: Any) -> Path:
    import torch  # noqa: PLC0415 - most tests of this room do without
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415

    directory = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        eos_token_id=0,
        bos_token_id=None,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level_tokenizer, eos_token="<end>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_fp8_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint with FP8 linear layers and static input scales, as ModelOpt exports them."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - as above

    directory = tmp_path_factory.mktemp("fp8")
    for file in tiny_checkpoint.iterdir():
        if file.name != "model.safetensors":
            shutil.copyfile(file, directory / file.name)
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        tensors |= _as_fp8(name, tensors[name])
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    quantization = {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (directory / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    return directory


def _as_fp8(name: str, weight: Any) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - as above

    scale = weight.abs().amax() / 448
    return {
        name: (weight / scale).to(torch.float8_e4m3fn),
        f"{name}_scale": scale,
        name.replace("weight", "input_scale"): torch.tensor(0.01),
    }


@pytest.fixture(scope="session")
def kernel_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of two ops with its package, which runs its references; no GPU can load it."""
    directory = write_pack(tmp_path_factory.mktemp("packs") / "pack", KERNEL_OPS)
    package = Path(bwdeploy_kernels.__file__).parent
    shutil.copytree(package, directory / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture
def short_room() -> Iterator[Path]:
    """A temporary directory with a path short enough for a Unix socket; pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="bw-") as directory:
        yield Path(directory)


@pytest.fixture
def engine_directory(
    tmp_path: Path, short_room: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[EngineConfig], Path]:
    """Makes a version directory as the repository writer does."""
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    monkeypatch.setattr(tempfile, "tempdir", str(short_room))

    def make(config: EngineConfig) -> Path:
        (tmp_path / "bwdeploy_runtime").symlink_to(Path(bwdeploy_runtime.__file__).parent)
        (tmp_path / "engine.json").write_text(config.to_json())
        return tmp_path

    return make
