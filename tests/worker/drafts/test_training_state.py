"""What an interrupted training finds again, and what it must not take for its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.worker.drafts.training_state import TrainingState, open_state
from tests.worker.drafts.training_jobs import request, write_lines


@pytest.fixture
def state(tmp_path: Path) -> TrainingState:
    return TrainingState(tmp_path, tmp_path)


def save(state: TrainingState, *steps: int) -> None:
    for step in steps:
        state.save(step, {"draft.fc": torch.full((3,), float(step))}, {"step": step})


def test_the_newest_whole_checkpoint_is_found(state: TrainingState, tmp_path: Path) -> None:
    save(state, 5, 10)
    newest = tmp_path / "checkpoint-00000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-2])
    found = state.newest()
    assert found is not None
    assert found.facts["step"] == 5
    assert found.tensors["draft.fc"].tolist() == [5.0] * 3


def test_two_checkpoints_are_kept_and_nothing_half_written(state: TrainingState, tmp_path: Path) -> None:
    save(state, 5, 10, 15)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "checkpoint-00000010.safetensors",
        "checkpoint-00000015.safetensors",
    ]


def test_a_file_that_a_killed_job_left_half_written_is_overwritten(
    state: TrainingState, tmp_path: Path
) -> None:
    (tmp_path / ".checkpoint-00000005.safetensors.part").write_bytes(b"half")
    save(state, 5)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-00000005.safetensors"]


def test_other_built_in_prompts_have_other_answers(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_state(request(tiny_llama, tmp_path))
    changed = tmp_path / "prompts.json"
    changed.write_text("{}")
    monkeypatch.setattr("bwdeploy.worker.drafts.training_state.PROMPTS_FILE", changed)
    assert open_state(request(tiny_llama, tmp_path)).answers != first.answers


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(state: TrainingState) -> None:
    assert state.newest() is None
    assert state.best() is None


def test_drafts_of_two_widths_share_the_answers_but_not_the_training(
    tiny_llama: Path, tmp_path: Path
) -> None:
    narrow = open_state(request(tiny_llama, tmp_path, ffn_width=32))
    wide = open_state(request(tiny_llama, tmp_path, ffn_width=64))
    assert narrow.answers == wide.answers
    assert narrow.training != wide.training
    assert open_state(request(tiny_llama, tmp_path, ffn_width=32)) == narrow


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.5}, {"seed": 1}, {"answer_tokens": 20}, {"prompts": 20}, {"device": "cuda"}]
)
def test_other_answers_have_a_state_of_their_own(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = open_state(request(tiny_llama, tmp_path))
    other = open_state(request(tiny_llama, tmp_path, **changes))
    assert first.answers != other.answers
    assert first.training != other.training


def test_other_weights_and_other_data_are_noticed_other_places_are_not(
    tiny_llama: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(tiny_llama, tmp_path / "copied")
    data = write_lines(tmp_path / "data.jsonl", {"prompt": "One?"})
    first = open_state(request(tiny_llama, tmp_path, data=data))
    assert open_state(request(copied, tmp_path, data=data)) == first
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    assert open_state(request(copied, tmp_path, data=data)).answers != first.answers
    write_lines(tmp_path / "data.jsonl", {"prompt": "Two?"})
    assert open_state(request(tiny_llama, tmp_path, data=data)).answers != first.answers
