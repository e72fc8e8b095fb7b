"""Several processes for one draft, and processes that are killed: real children, on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bwdeploy.errors import RecipeError
from bwdeploy.pipeline.jobs import Progress, to_json
from bwdeploy.pipeline.training_jobs import TrainDraft
from tests.worker.drafts.training_jobs import answer_tiny, request, train_tiny
from tests.worker.tiny_llama import make_tiny_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("target"), num_hidden_layers=4)


def weights(place: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(place / "out" / "model.safetensors")
    return found


def test_two_processes_train_the_draft_that_one_would(target: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    alone = train_tiny(target, tmp_path / "one")
    both = train_tiny(target, tmp_path / "two", seen.append, gpus=2)
    assert both.curve.gpus == 2
    assert {progress.phase for progress in seen} >= {"load", "answers", "train", "export"}
    assert both.training_tokens == alone.training_tokens
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, rtol=0.02, atol=2e-3, msg=name)


def test_a_process_that_fails_ends_the_others_with_its_error(target: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="vocabulary has 384"):
        train_tiny(target, tmp_path, gpus=2, draft_vocab=1000)
    assert not list((tmp_path / "state").glob("group-*"))


def _worker(job: TrainDraft, place: Path) -> subprocess.Popen[bytes]:
    file = place / "job.json"
    content = {"entry": job.entry, "request": to_json(job), "result": str(place / "result.json")}
    file.write_text(json.dumps(content))
    return subprocess.Popen([sys.executable, "-m", "bwdeploy.worker", str(file)])


def _wait_for(place: Path, pattern: str) -> None:
    deadline = time.monotonic() + 200
    while not list(place.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_training_that_was_killed_goes_on_to_the_same_draft(
    target: Path, tmp_path: Path, gpus: int
) -> None:
    changes: dict[str, Any] = {"steps": 16, "evaluate_every": 2, "gpus": gpus}
    whole = train_tiny(target, tmp_path / "whole", **changes)
    place = tmp_path / "killed"
    answer_tiny(target, place, **changes)
    process = _worker(request(target, place, **changes), place)
    _wait_for(place, "state/training-*/checkpoint-*")
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3)
    assert not _running(place)
    assert not (place / "result.json").exists()
    result = train_tiny(target, place, **changes)
    assert result.curve.resumed_at is not None
    assert [point.step for point in result.curve.points] == [point.step for point in whole.curve.points]
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(place)[name], value), name


def _running(place: Path) -> list[str]:
    """Processes whose command line names `place`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if str(place) in command and int(process.name) != os.getpid():
            found.append(command)
    return found
