"""What an interrupted training finds again, and what it must not take for its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.worker.drafts.training_state import TrainingState, open_state
from tests.worker.drafts.training_jobs import request


@pytest.fixture
def state(tmp_path: Path) -> TrainingState:
    return TrainingState(tmp_path)


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


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(state: TrainingState) -> None:
    assert state.newest() is None
    assert state.best() is None


@pytest.mark.parametrize("changes", [{"ffn_width": 64}, {"seed": 1}, {"steps": 20}, {"device": "cuda"}])
def test_another_training_has_a_state_of_its_own(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = open_state(request(tiny_llama, tmp_path))
    assert open_state(request(tiny_llama, tmp_path, **changes)) != first
    assert open_state(request(tiny_llama, tmp_path)) == first


def test_other_weights_and_other_answers_are_noticed_other_places_are_not(
    tiny_llama: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(tiny_llama, tmp_path / "copied")
    job = request(tiny_llama, tmp_path)
    material = job.answers / "material.safetensors"
    material.write_bytes(b"one")
    first = open_state(job)
    assert open_state(job.model_copy(update={"target": copied})) == first
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    assert open_state(job.model_copy(update={"target": copied})) != first
    material.write_bytes(b"two")
    assert open_state(job) != first
