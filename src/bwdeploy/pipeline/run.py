"""Run a plan: make what the store does not have, each stage under its lock, and publish it whole."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from bwdeploy.pipeline.stage import Work
from bwdeploy.pipeline.store import storage_errors

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Executor, Progress
    from bwdeploy.pipeline.plan import Plan, PlannedStage
    from bwdeploy.pipeline.store import Artifact, Store


_LOG = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who wants to see a build happen."""

    def started(self, stage: str) -> None:
        """A stage begins to run."""

    def progressed(self, stage: str, progress: Progress) -> None:
        """A running stage got further."""

    def waiting(self, stage: str) -> None:
        """Another process is making the same artifact; this one waits for it."""

    def finished(self, result: StageResult) -> None:
        """A stage is done, or its result was in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """How a stage of this build came about."""

    name: str
    key: str
    status: Literal["cached", "built"]
    seconds: float
    artifact: Artifact


def run_plan(
    plan: Plan, *, store: Store, executor: Executor, watcher: Watcher, until: str | None = None
) -> tuple[StageResult, ...]:
    """Make every artifact of `plan`, up to and including the stage `until`.

    Raises:
        HostError: a program that a stage needs is not there; nothing ran.
        ToolError, HostError, StoreError, GateError: a stage failed; the store keeps what was finished.
    """
    _require_programs(plan, executor, until)
    store.remember(plan.recipe.name, plan.keys)
    _tell_of_forgotten_jobs(store)
    results: dict[str, StageResult] = {}
    for planned in plan.stages:
        results[planned.name] = _result(planned, results, store, executor, watcher)
        watcher.finished(results[planned.name])
        planned.stage.judge(plan.recipe, results[planned.name].artifact.directory)
        if planned.name == until:
            break
    return tuple(results.values())


def _require_programs(plan: Plan, executor: Executor, until: str | None) -> None:
    """Look for what late stages need now, not after the hours that the earlier ones take."""
    for planned in plan.stages:
        if planned.status == "run" and planned.step.program is not None:
            executor.require(planned.step.program)
        if planned.name == until:
            break


def _tell_of_forgotten_jobs(store: Store) -> None:
    """A job that went on without us costs its cluster, and a changed recipe will never ask for its result."""
    used = store.referenced_keys()
    for leftover in store.leftovers():
        if leftover.job and leftover.key not in used:
            _LOG.warning(
                "%s of an earlier build may still run, and no recipe as it is now asks for its result:"
                " `bwdeploy store gc` ends it; building that recipe again takes it up",
                leftover.job,
            )


def _result(
    planned: PlannedStage, results: dict[str, StageResult], store: Store, executor: Executor, watcher: Watcher
) -> StageResult:
    began = time.monotonic()
    if planned.artifact is not None:
        return _cached(planned, planned.artifact, began)
    with (
        storage_errors(store.root),
        store.lock(planned.key, on_wait=lambda: watcher.waiting(planned.name)),
    ):
        made_elsewhere = store.find(planned.name, planned.key)
        if made_elsewhere is not None:
            return _cached(planned, made_elsewhere, began)
        watcher.started(planned.name)
        artifact = _build(planned, results, store, executor, watcher)
    return StageResult(
        name=planned.name,
        key=planned.key,
        status="built",
        seconds=time.monotonic() - began,
        artifact=artifact,
    )


def _cached(planned: PlannedStage, artifact: Artifact, began: float) -> StageResult:
    seconds = time.monotonic() - began
    return StageResult(
        name=planned.name, key=planned.key, status="cached", seconds=seconds, artifact=artifact
    )


def _build(
    planned: PlannedStage, results: dict[str, StageResult], store: Store, executor: Executor, watcher: Watcher
) -> Artifact:
    began = time.monotonic()
    workspace = store.workspace(planned.key)
    out, state = store.files_of(workspace), store.state_of(planned.key)
    try:
        planned.stage.run(
            Work(
                step=planned.step,
                inputs={name: results[name].artifact.directory for name in planned.step.inputs},
                out=out,
                scratch=store.scratch_of(workspace),
                state=state,
                executor=executor,
                log=store.log_path(planned.name, planned.key[:12]),
                on_progress=lambda progress: watcher.progressed(planned.name, progress),
            )
        )
        planned.stage.verify(out)
        return store.publish(
            workspace,
            stage=planned.name,
            key=planned.key,
            document=planned.document,
            seconds=time.monotonic() - began,
        )
    finally:
        if not store.is_used(workspace):  # else a job that waits in its queue still wants both
            shutil.rmtree(workspace, ignore_errors=True)  # gone already when it was published
            with suppress(OSError):  # most stages keep nothing
                state.rmdir()
