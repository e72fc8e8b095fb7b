"""Whole builds with a draft on a tiny model: real training, real measurement, real files."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.place import Place
from tests.worker.drafts.draft_files import draft_config, draft_tensors, write_draft
from tests.worker.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.slow

RECIPE = """\
schema: 1
name: tiny
model: {source: file://model}
quantize: {method: none}
engine: {max_batch_size: 8, max_num_tokens: 64, max_seq_len: 64, environment: {TRTLLM_ENABLE_PDL: "1"}}
gate: {evaluation: {samples: 8, seq_len: 32}}
serve: {runtime: tensorrt_llm, model_name: tiny}
"""
TRAINED = """\
speculative:
  method: eagle3
  train:
    {prompts: 64, answers_per_prompt: 1, answer_tokens: 24, seq_len: 96, ffn_width: 64, steps: 120,
     batch_size: 4, warmup_steps: 5, evaluate_every: 60, learning_rate: 1.0e-2}
  draft_len: auto
  measure: {prompts_per_workload: 4, new_tokens: 16, max_draft_len: 3, batch_sizes: [1, 8]}
"""
IMPORTED = "speculative: {method: eagle3, draft: file://draft, draft_len: 2}\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that repeats the last token for ever: attention and feed-forward add nothing to it."""
    directory = make_tiny_llama(
        tmp_path_factory.mktemp("model"), num_hidden_layers=8, max_position_embeddings=1024
    )
    files = import_module("safetensors.torch")
    tensors = files.load_file(directory / "model.safetensors")
    silent = {name: one * 0 for name, one in tensors.items() if "o_proj" in name or "down_proj" in name}
    files.save_file(tensors | silent, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.fixture
def draft(tmp_path: Path, model: Path) -> Path:
    directory = write_draft(tmp_path / "draft", draft_config(), draft_tensors())
    shutil.copy(model / "tokenizer.json", directory)
    return directory


def place_in(root: Path, model: Path, speculative: str) -> Place:
    (root / "model").symlink_to(model)
    return Place(root, RECIPE + speculative)


def served(root: Path) -> dict[str, Any]:
    """The arguments of a built repository, whose draft lies where they say."""
    version = root / "out/model_repository/tiny/1"
    arguments: dict[str, Any] = yaml.safe_load((version / "llm_args.yaml").read_text())
    assert (version / arguments["speculative_config"]["speculative_model"] / "config.json").is_file()
    assert json.loads((version / "engine.json").read_text())["environment"] == {"TRTLLM_ENABLE_PDL": "1"}
    return arguments


def test_an_imported_draft_is_audited_and_served(tmp_path: Path, model: Path, draft: Path) -> None:
    assert draft.name == "draft"
    place_in(tmp_path, model, IMPORTED).run("build", "recipe.yaml", "-o", "out")
    assert served(tmp_path)["speculative_config"] == {
        "decoding_type": "Eagle",
        "eagle3_layers_to_capture": [1, 3, 4],
        "max_draft_len": 2,
        "speculative_model": "draft",
    }


def test_a_draft_for_another_tokenizer_stops_the_build(tmp_path: Path, model: Path, draft: Path) -> None:
    tokenizer = json.loads((draft / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {
        {"e": "f", "f": "e"}.get(token, token): number
        for token, number in tokenizer["model"]["vocab"].items()
    }
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer))
    answer, _ = place_in(tmp_path, model, IMPORTED).run("build", "recipe.yaml", "-o", "out", code=6)
    assert "2 token ids differ" in answer["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_trained_draft_is_measured_and_its_length_chosen(tmp_path: Path, model: Path) -> None:
    place_in(tmp_path, model, TRAINED).run("build", "recipe.yaml", "-o", "out")
    measured = json.loads((tmp_path / "out/report/acceptance.json").read_text())
    assert measured["overall"][2]["length"]["value"] > 3.5
    assert measured["greedy_differs"] == 0
    chosen = json.loads((tmp_path / "out/report/choice.json").read_text())["draft_len"]
    if chosen:  # by the clock of this machine
        assert served(tmp_path)["speculative_config"]["max_draft_len"] == chosen
    else:
        assert not list((tmp_path / "out/model_repository").glob("**/draft"))
