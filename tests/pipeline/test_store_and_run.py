"""Builds with the real store: resume, kill, two at once, damage, limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bwdeploy.errors import GateError, HostError, StoreError, ToolError
from bwdeploy.pipeline.jobs import ProgramNeed
from bwdeploy.pipeline.run import run_plan
from bwdeploy.pipeline.stage import Stage, Work
from bwdeploy.pipeline.store import RUNNING_JOB, Store
from bwdeploy.tools.executors import local_executor
from tests.pipeline.toy import CopyStage, Journal, UpperStage, build, plan, recipe

TOY = Path(__file__).with_name("toy.py")
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def stages(tmp_path: Path) -> list[Stage]:
    (tmp_path / "source").write_text("some text")
    return [CopyStage(tmp_path / "source", tmp_path / "journal"), UpperStage(tmp_path / "journal")]


def journal(tmp_path: Path) -> list[str]:
    return (tmp_path / "journal").read_text().split()


def child(tmp_path: Path, pause_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(TOY), str(tmp_path), str(pause_s)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def wait_for(path: Path, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_second_build_runs_nothing(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    first, second = build(stages, store), build(stages, store)
    assert [result.status for result in first] == ["built", "built"]
    assert [result.status for result in second] == ["cached", "cached"]
    assert journal(tmp_path) == ["copy", "upper"]


def test_changed_source_content_rebuilds_everything_after_it(
    store: Store, stages: list[Stage], tmp_path: Path
) -> None:
    build(stages, store)
    (tmp_path / "source").write_text("other")
    assert [result.status for result in build(stages, store)] == ["built", "built"]


def test_moved_source_with_the_same_content_is_cached(
    store: Store, stages: list[Stage], tmp_path: Path
) -> None:
    build(stages, store)
    moved = tmp_path / "elsewhere" / "source"
    moved.parent.mkdir()
    (tmp_path / "source").rename(moved)
    again: list[Stage] = [CopyStage(moved, tmp_path / "journal"), UpperStage(tmp_path / "journal")]
    assert [result.status for result in build(again, store)] == ["cached", "cached"]


def test_changed_name_rebuilds_only_the_stage_that_uses_it(store: Store, stages: list[Stage]) -> None:
    build(stages, store)
    assert [result.status for result in build(stages, store, recipe("other"))] == ["cached", "built"]


def test_other_tool_version_rebuilds(store: Store, tmp_path: Path, stages: list[Stage]) -> None:
    build(stages, store)
    with_tool: list[Stage] = [
        CopyStage(tmp_path / "source", tmp_path / "journal", tools=("pydantic", "rich")),
        stages[1],
    ]
    planned = plan(with_tool, store)
    assert [one.status for one in planned.stages] == ["run", "run"]
    assert "tools.rich" in planned.stages[0].why


def test_a_program_that_a_late_stage_needs_is_looked_for_first(
    store: Store, stages: list[Stage], tmp_path: Path
) -> None:
    need = ProgramNeed(program="no-such-program", tensorrt_llm="1.2.1")
    needing: list[Stage] = [stages[0], UpperStage(tmp_path / "journal", program=need)]
    assert plan(needing, store).keys == plan(stages, store).keys
    with pytest.raises(HostError, match="no-such-program"):
        build(needing, store)
    assert not (tmp_path / "journal").exists()
    assert plan(needing, store).stages[0].why == "not built yet"
    run_plan(plan(needing, store), store=store, executor=local_executor(), watcher=Journal(), until="copy")
    build(stages, store)
    assert [result.status for result in build(needing, store)] == ["cached", "cached"]


def test_plan_says_what_changed(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    assert [one.why for one in plan(stages, store).stages] == ["not built yet", "not built yet"]
    build(stages, store)
    assert [one.why for one in plan(stages, store).stages] == ["in the store", "in the store"]
    (tmp_path / "source").write_text("other")
    assert "sources.text/source" in plan(stages, store).stages[0].why


def test_plan_runs_and_stores_nothing(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    plan(stages, store)
    assert not (tmp_path / "journal").exists()
    assert store.artifacts() == []


def test_build_killed_in_a_stage_leaves_nothing_half_made_and_resumes(
    store: Store, stages: list[Stage], tmp_path: Path
) -> None:
    with child(tmp_path, 60) as killed:
        wait_for(tmp_path / "journal")
        time.sleep(0.1)
        killed.send_signal(signal.SIGKILL)
    assert store.artifacts() == []
    assert list((store.root / "building").iterdir()) != []
    assert [result.status for result in build(stages, store)] == ["built", "built"]
    assert list((store.root / "building").iterdir()) == []


def test_finished_stage_is_not_repeated_after_a_failure(
    store: Store, stages: list[Stage], tmp_path: Path
) -> None:
    broken: list[Stage] = [stages[0], UpperStage(tmp_path / "journal", fails=True)]
    with pytest.raises(ToolError, match="the tool broke"):
        build(broken, store)
    assert [artifact.stage for artifact in store.artifacts()] == ["copy"]
    assert [result.status for result in build(stages, store)] == ["cached", "built"]


def test_two_builds_at_once_do_the_work_once(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    with child(tmp_path, 1.0) as one, child(tmp_path, 1.0) as two:
        assert (one.wait(30), two.wait(30)) == (0, 0)
    assert sorted(journal(tmp_path)) == ["copy", "upper"]
    assert [result.status for result in build(stages, store)] == ["cached", "cached"]


def test_waiting_for_another_build_is_told(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    watcher = Journal()
    with child(tmp_path, 1.0) as other:
        wait_for(tmp_path / "journal")
        run_plan(plan(stages, store), store=store, executor=local_executor(), watcher=watcher)
        assert other.wait(30) == 0
    assert "waiting copy" in watcher.seen
    assert "started copy" not in watcher.seen


@pytest.mark.parametrize("damage", ["content", "missing", "manifest"])
def test_damaged_store_entry_is_rebuilt(
    damage: str, store: Store, stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    artifact = build(stages, store)[0].artifact
    text = artifact.directory / "text"
    match damage:
        case "content":
            text.chmod(0o644)
            text.write_text("evil text")
        case "missing":
            text.unlink()
        case _:
            (artifact.directory.parent / "artifact.json").write_text("{")
    again = build(stages, store)
    assert again[0].status == "built"
    assert (again[0].artifact.directory / "text").read_text() == "some text"
    assert "will be rebuilt" in caplog.text


def test_published_files_are_read_only_for_everybody_to_read(store: Store, stages: list[Stage]) -> None:
    artifact = build(stages, store)[0].artifact
    assert {path.stat().st_mode & 0o777 for path in artifact.directory.iterdir()} == {0o444}


NOTE = '{"executor": "slurm", "job": "1000"}'


def leave(store: Store, key: str, *, note: str = "") -> Path:
    """What a dead builder left."""
    workspace = store.workspace(key)
    if note:
        (store.scratch_of(workspace) / RUNNING_JOB).write_text(note)
    return workspace


def test_the_workspace_of_a_running_job_is_handed_out_again(store: Store) -> None:
    left = leave(store, "k", note=NOTE)
    assert store.workspace("k") == left
    (store.scratch_of(left) / RUNNING_JOB).unlink()
    assert store.workspace("k") != left
    assert not left.exists()


@pytest.mark.parametrize("runs_on", [True, False])
def test_a_stage_that_fails_keeps_its_workspace_only_for_a_running_job(
    store: Store, tmp_path: Path, *, runs_on: bool
) -> None:
    (tmp_path / "source").write_text("some text")

    class Failing(CopyStage):
        def run(self, work: Work) -> None:
            if runs_on:
                (work.scratch / RUNNING_JOB).write_text(NOTE)
            raise HostError("the queue is silent")

    with pytest.raises(HostError):
        build([Failing(tmp_path / "source", tmp_path / "journal")], store)
    assert bool(list((store.root / "building").iterdir())) == runs_on
    assert bool(list(store.states())) == runs_on  # a queued job mounts it when it starts


def test_leftovers_name_their_jobs_but_not_what_somebody_builds(store: Store) -> None:
    leave(store, "a", note=NOTE)
    leave(store, "b", note="{")
    dead = leave(store, "c")
    leave(store, "held")
    with store.lock("held", on_wait=lambda: None):
        found = list(store.leftovers())
    assert [(one.key, one.job) for one in found] == [("a", "Slurm job 1000"), ("b", "A job"), ("c", "")]
    store.discard(found[2])
    assert not dead.exists()


def test_a_job_that_no_recipe_asks_for_any_more_is_told(
    store: Store, stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    leave(store, "old", note=NOTE)
    build(stages, store)
    assert "Slurm job 1000 of an earlier build may still run" in caplog.text
    assert "store gc" in caplog.text
    caplog.clear()
    store.remember("another recipe", {"copy": "old"})
    build(stages, store)
    assert caplog.text == ""


def test_the_state_of_an_interrupted_stage_is_there_when_it_runs_again(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("some text")

    class Training(CopyStage):
        def run(self, work: Work) -> None:
            reached = work.state / "step"
            if not reached.exists():
                reached.write_text("7")
                raise ToolError("interrupted")
            super().run(work)
            (work.out / "resumed_at").write_text(reached.read_text())

    stages: list[Stage] = [Training(tmp_path / "source", tmp_path / "journal")]
    with pytest.raises(ToolError, match="interrupted"):
        build(stages, store)
    assert [state.name for _, state in store.states()] == [plan(stages, store).stages[0].key]
    (result,) = build(stages, store)
    assert (result.artifact.directory / "resumed_at").read_text() == "7"
    assert list(store.states()) == []


def test_a_stage_that_keeps_no_state_leaves_none(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    broken: list[Stage] = [stages[0], UpperStage(tmp_path / "journal", fails=True)]
    with pytest.raises(ToolError):
        build(broken, store)
    assert list(store.states()) == []


def test_changed_limit_judges_the_same_artifact_again(
    store: Store, stages: list[Stage], tmp_path: Path
) -> None:
    build(stages, store)
    with pytest.raises(GateError):
        build(stages, store, recipe(max_weight_error=0.0))
    assert journal(tmp_path).count("copy") == 1


def test_until_stops_after_the_named_stage(store: Store, stages: list[Stage]) -> None:
    results = run_plan(
        plan(stages, store), store=store, executor=local_executor(), watcher=Journal(), until="copy"
    )
    assert [result.name for result in results] == ["copy"]


def test_missing_source_is_one_clear_error(store: Store, stages: list[Stage], tmp_path: Path) -> None:
    (tmp_path / "source").unlink()
    with pytest.raises(StoreError, match="source cannot be read"):
        plan(stages, store)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_is_a_clear_error_and_leaves_nothing(stages: list[Stage], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        (tmp_path / "source").write_bytes(os.urandom(200_000))
        small = Store(disk / "store")
        with pytest.raises(StoreError, match="no space left"):
            build(stages, small)
        assert small.artifacts() == []
        assert list((small.root / "building").iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
