"""A real Triton server with the whole repository of an engine, and a stand-in where the engine would run.

The five models are as written; only the backend of `tensorrt_llm` is another. Beside them stand the same
models not decoupled (`*_whole`; a second server would cost seconds), one that drafts and one that is slow.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.serving.engine_repository import EngineRepositoryInputs, write_engine_repository
from bwdeploy.serving.model_config import parse_pbtxt, to_pbtxt
from bwdeploy.tools.triton_request import ServerRequest
from bwdeploy.tools.triton_server import start_server
from tests.runtime.triton_client import Triton

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND_IN = Path(__file__).with_name("stand_in_engine.py")
SAMPLE = "the quick brown fox jumps over the lazy dog. 東京 is a city; a world is round."
ENGINE = Engine(backend="tensorrt", max_batch_size=4, max_seq_len=64)
ONE_PROCESS_EACH = {f"{name}_instance_count": 1 for name in ("preprocessing", "postprocessing", "bls")}


class EngineServer(NamedTuple):
    triton: Triton
    tokenizer: Any
    notes: Path

    def asked(self, model: str = "tensorrt_llm") -> list[dict[str, Any]]:
        """What the stand-in was asked, oldest first."""
        lines = map(json.loads, self.notes.read_text().splitlines())
        return [line for line in lines if line["model"] == model]


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer: each character beyond ASCII is several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SAMPLE], trainer)
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer.enable_truncation(4)  # as a calibration leaves it; nobody may be cut
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": {"content": "<end>"}, "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="session")
def engine_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    (folder / "rank0.engine").write_bytes(b"engine")
    (folder / "config.json").write_text(json.dumps({"pretrained_config": {"vocab_size": 320}}))
    return folder


@pytest.fixture(scope="session")
def engine_server(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_files: Path, engine_directory: Path
) -> Iterator[EngineServer]:
    room = tmp_path_factory.mktemp("engine_server")
    notes, repository, whole = room / "notes", room / "repository", room / "whole"
    notes.touch()
    for directory, streaming in ((repository, True), (whole, False)):
        directory.mkdir()
        serve = Serve(streaming=streaming, engine_parameters=ONE_PROCESS_EACH)
        inputs = EngineRepositoryInputs(serve, ENGINE, Layout(), tokenizer_files, engine_directory)
        write_engine_repository(directory, inputs)
        stand_in(directory / "tensorrt_llm", {"mode": "echo", "notes": str(notes)})
    add_others(repository, whole, notes)
    request = ServerRequest(
        repository=repository, log=room / "triton.log", startup_timeout_s=60, exit_timeout_s=1
    )
    with start_server(request) as server:
        tokenizer = Tokenizer.from_file(str(tokenizer_files / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        yield EngineServer(Triton(server), tokenizer, notes)


def stand_in(model: Path, behaviour: dict[str, Any]) -> None:
    """Run the stand-in where the engine's backend would."""
    shutil.copyfile(STAND_IN, model / "1" / "model.py")
    (model / "1" / "behaviour.json").write_text(json.dumps(behaviour))
    change(model, backend="python")


def change(model: Path, *, backend: str = "", parameters: dict[str, str] | None = None) -> None:
    """Fit config.pbtxt to the model's directory."""
    file = model / "config.pbtxt"
    config = parse_pbtxt(file.read_text())
    config.name = model.name
    config.backend = backend or config.backend
    for key, value in (parameters or {}).items():
        config.parameters[key].string_value = value
    for step in config.ensemble_scheduling.step:
        step.model_name += "_whole" if step.model_name == "tensorrt_llm" else ""
    file.write_text(to_pbtxt(config))


def add_others(repository: Path, whole: Path, notes: Path) -> None:
    chain: dict[str, Any] = {"mode": "chain", "notes": str(notes)}
    for model in ("ensemble", "tensorrt_llm", "tensorrt_llm_bls"):
        shutil.move(whole / model, repository / f"{model}_whole")
        change(repository / f"{model}_whole")
    change(
        repository / "tensorrt_llm_bls_whole", parameters={"tensorrt_llm_model_name": "tensorrt_llm_whole"}
    )
    for name, behaviour in {"target": chain, "draft": {**chain, "wrong_every": 3}}.items():
        shutil.copytree(repository / "tensorrt_llm_whole", repository / name)
        stand_in(repository / name, behaviour)
    shutil.copytree(repository / "tensorrt_llm", repository / "slow")
    stand_in(repository / "slow", {"mode": "echo", "notes": str(notes), "token_delay_s": 0.05})
    for name, engine in {"drafting": "target", "slow_bls": "slow", "cumulative": "tensorrt_llm"}.items():
        shutil.copytree(repository / "tensorrt_llm_bls", repository / name)
        settings = {"tensorrt_llm_model_name": engine, "accumulate_tokens": str(name == "cumulative").lower()}
        if name == "drafting":
            settings["tensorrt_llm_draft_model_name"] = "draft"
        change(repository / name, parameters=settings)
