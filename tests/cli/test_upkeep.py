"""`store gc`: what it removes of unfinished trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.cli.upkeep import collect_garbage
from bwdeploy.pipeline.keys import KeyDocument
from bwdeploy.pipeline.store import Store

DOCUMENT: KeyDocument = {
    "schema": 1, "stage": "copy", "stage_version": 1, "params": {}, "sources": {}, "inputs": {}, "tools": {},
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("BWDEPLOY_STORE", str(tmp_path))
    return Store(tmp_path)


def begun(store: Store, key: str) -> Path:
    """The state of a training that was interrupted."""
    state = store.state_of(key)
    (state / "step-7").mkdir()
    (state / "step-7" / "model.safetensors").write_bytes(b"x" * 1000)
    return state


def test_a_training_that_a_recipe_can_go_on_with_is_kept(store: Store) -> None:
    wanted, unwanted, running = (begun(store, key) for key in ("wanted", "unwanted", "running"))
    store.remember("recipe", {"quantize": "wanted"})
    with store.lock("running", on_wait=lambda: None):
        collect_garbage()
    assert (wanted.is_dir(), unwanted.is_dir(), running.is_dir()) == (True, False, True)


def test_the_state_of_a_finished_training_goes(store: Store) -> None:
    workspace = store.workspace("k")
    store.publish(workspace, stage="quantize", key="k", document=DOCUMENT, seconds=1.0)
    state = begun(store, "k")  # as if the build had been killed between publishing and removing it
    store.remember("recipe", {"quantize": "k"})
    collect_garbage()
    assert not state.exists()
    assert store.find("quantize", "k")


def test_a_dry_run_says_how_much_and_removes_nothing(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    state = begun(store, "unwanted")
    collect_garbage(dry_run=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["bytes"] == 1000
    assert state.is_dir()
