"""Trainings in processes of their own: several ranks (gloo on the CPU), sharded ones, and killed ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import QuantizeTrained, TrainedResult
from bwdeploy.worker import process_group
from bwdeploy.worker.training import run
from tests.worker.jobs_in_process import ignore_progress
from tests.worker.training import sharded_rank
from tests.worker.training.jobs import train_tiny, training_request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def alone(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedResult:
    """The same training in one process."""
    return train_tiny(tiny_llama, tmp_path_factory.mktemp("alone"))


def assert_like(result: TrainedResult, alone: TrainedResult) -> None:
    assert result.curve is not None
    assert alone.curve is not None
    assert [point.validation for point in result.curve.points] == pytest.approx(
        [point.validation for point in alone.curve.points], rel=2e-2
    )
    assert result.perplexity_exported == pytest.approx(result.perplexity_trained, rel=1e-4)


def test_two_ranks_train_as_one_does_and_leave_nothing_behind(
    tiny_llama: Path, tmp_path: Path, alone: TrainedResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    seen: list[Progress] = []
    training = {"gpus": 2, "gradient_checkpointing": True}
    result = train_tiny(tiny_llama, tmp_path, training=training, report=seen.append)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert_like(result, alone)
    assert result.curve is not None
    assert result.curve.gpus == 2
    assert {one.done for one in seen if one.phase == "train"} >= set(range(1, 13))


def test_sharded_training_goes_on_from_its_checkpoint(
    tiny_llama: Path, tmp_path: Path, alone: TrainedResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "_MODULE", sharded_rank.__name__)
    monkeypatch.setenv(sharded_rank.NOTE, str(tmp_path / "kinds"))

    request = training_request(tiny_llama, tmp_path, training={"gpus": 2})
    killed = subprocess.Popen(
        [sys.executable, "-c", _CHILD, request.model_dump_json(), sharded_rank.__name__],
        stdout=subprocess.DEVNULL,
    )
    kill_after(killed, tmp_path / "state" / "step-4")
    result = run.run(request, ignore_progress)
    assert (tmp_path / "kinds").read_text() == "DTensor"
    assert result.curve is not None
    assert (result.curve.resumed_at or 0) >= 4
    assert_like(result, alone)


_CHILD = """
import sys
from bwdeploy.pipeline.training_jobs import QuantizeTrained
from bwdeploy.worker import process_group
from bwdeploy.worker.training import run
process_group._MODULE = sys.argv[2]
run.run(QuantizeTrained.model_validate_json(sys.argv[1]), lambda _: None)
"""


def test_killed_worker_takes_its_ranks_along_and_its_training_goes_on(
    tiny_llama: Path, tmp_path: Path, alone: TrainedResult
) -> None:
    request = training_request(tiny_llama, tmp_path, training={"gpus": 2})
    job = {
        "entry": request.entry,
        "request": json.loads(request.model_dump_json()),
        "result": str(tmp_path / "result.json"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    worker = subprocess.Popen(
        [sys.executable, "-m", "bwdeploy.worker", str(tmp_path / "job.json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ranks = kill_after(worker, tmp_path / "state" / "step-4")
    assert len(ranks) == 2
    wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))
    result = run.run(QuantizeTrained.model_validate(request.model_dump()), ignore_progress)
    assert result.curve is not None
    assert (result.curve.resumed_at or 0) >= 4
    assert_like(result, alone)


def test_failing_rank_tells_its_reason(tiny_llama: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_llama.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ToolError) as caught:
        train_tiny(broken, tmp_path, training={"gpus": 2})
    assert "without a word" not in str(caught.value)


def kill_after(process: subprocess.Popen[bytes], path: Path) -> list[int]:
    """Kill `process` the hard way once `path` is there; the children it then had."""
    wait_until(path.exists)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return [int(child) for child in children]


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 240
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
