from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bwdeploy.pipeline.training_jobs import TrainingPoint
from bwdeploy.worker.training.state import TrainingRecord, TrainingState, request_digest
from tests.worker.training.jobs import training_request


def save(state: TrainingState, step: int, *, best: int = 0) -> None:
    record = TrainingRecord(
        request=state.digest,
        step=step,
        points=(TrainingPoint(step=step, validation=1.0),),
        perplexities={step: 2.5},
        first_loss=1.0,
        seconds=3.0,
    )
    state.save(record, {"weight": torch.full((2,), float(step))}, {"weight/m": torch.ones(2)}, best=best)


def test_newest_checkpoint_and_the_best_model_stay(tmp_path: Path) -> None:
    state = TrainingState(tmp_path, "one")
    for step in (0, 10, 20, 30):
        save(state, step, best=10 if step else 0)
    newest = state.newest()
    assert newest is not None
    assert (newest.step, newest.perplexities) == (30, {30: 2.5})
    assert {path.name for path in tmp_path.iterdir()} == {"step-10", "step-30"}
    assert dict(state.model(10))["weight"].tolist() == [10.0, 10.0]
    assert set(state.optimizer(30)) == {"weight/m"}
    assert not (tmp_path / "step-10" / "optimizer.safetensors").exists()


def test_half_written_checkpoint_is_not_seen_and_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = TrainingState(tmp_path, "one")
    save(state, 10)

    def killed(_descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            save(state, 20)
    newest = state.newest()
    assert newest is not None
    assert newest.step == 10
    save(state, 20)
    assert {path.name for path in tmp_path.iterdir()} == {"step-20"}


def test_checkpoint_of_another_request_is_ignored(tmp_path: Path) -> None:
    save(TrainingState(tmp_path, "one"), 10)
    other = TrainingState(tmp_path, "other")
    assert other.newest() is None
    save(other, 10)
    newest = other.newest()
    assert newest is not None
    assert TrainingState(tmp_path, "one").newest() is None


def test_damaged_record_is_ignored(tmp_path: Path) -> None:
    state = TrainingState(tmp_path, "one")
    save(state, 10)
    (tmp_path / "step-10" / "training.json").write_text('{"step": 10}')
    assert state.newest() is None


def test_digest_follows_what_is_asked_for_and_not_where(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    apart = frozenset({"source", "out", "state"})

    def digest(place: str, **training: float) -> str:
        request = training_request(source, tmp_path / place, training=training)
        return request_digest(request, source, apart=apart)

    assert digest("a") == digest("b") != digest("a", learning_rate=0.5)
    before = digest("a")
    (source / "config.json").write_text('{"changed": 1}')
    assert digest("a") != before
