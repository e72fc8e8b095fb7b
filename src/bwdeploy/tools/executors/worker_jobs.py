"""The worker protocol: a job file in, lines of progress, a result file out; the same for every launcher.

What went wrong comes back as one error of ours; the log keeps the traceback.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from bwdeploy.errors import BwdeployError, Finding, HostError, RecipeError, StoreError, ToolError
from bwdeploy.pipeline.jobs import JobData, JobRequest, Progress, ResultT, texts_in, to_json
from bwdeploy.tools.executors.follow import Follower
from bwdeploy.tools.executors.launch import Launch, Outcome, Watch, end_of, identity_of, killed_by, last_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bwdeploy.tools.executors.launch import Launcher

_WRITTEN_FIELDS = frozenset({"out", "state"})
_FILE_SCHEME = "file://"


class WorkerPlace(NamedTuple):
    """Where worker jobs run, and with which Python."""

    launcher: Launcher
    python: str
    """The interpreter there of the environment that has torch and ModelOpt."""
    reads: tuple[Path, ...] = ()
    """What it needs beyond the job's own files."""
    environment: Mapping[str, str] = {}


class WorkerFiles(NamedTuple):
    """Where the executor puts what a job writes."""

    log: Path
    scratch: Path


def run_worker(
    place: WorkerPlace,
    request: JobRequest[ResultT],
    *,
    files: WorkerFiles,
    on_progress: Callable[[Progress], None],
) -> ResultT:
    """Run `request` in a worker process of `place` and wait for it; see `Executor.run`."""
    content = json.dumps({"entry": request.entry, "request": to_json(request)}, sort_keys=True)
    identity = identity_of(content)
    job, answer, output = (
        files.scratch / f"{name}-{identity[:12]}.{suffix}"
        for name, suffix in (("job", "json"), ("result", "json"), ("progress", "jsonl"))
    )
    job.write_text(json.dumps({**json.loads(content), "result": str(answer)}), encoding="utf-8")
    reads, writes = named_paths(request)
    launch = Launch(
        command=(place.python, "-m", "bwdeploy.worker", str(job)),
        scratch=files.scratch,
        log=files.log,
        identity=identity,
        reads=(*reads, *place.reads),
        writes=writes,
        environment=place.environment,
        gpus=request.gpus,
        network=request.needs_network,
        output=output,
        answer=answer,
    )
    follower = Follower(output)
    watch = Watch(on_progress, lambda: _forward(follower, on_progress))
    outcome = place.launcher.run(launch, watch)
    return _result(request, outcome, answer, files.log)


def named_paths(request: JobData) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The files and directories that a request names: those that are read, and those that are written."""
    reads: list[Path] = []
    writes: list[Path] = []
    for field, value in request:
        if isinstance(value, Path):
            (writes if field in _WRITTEN_FIELDS else reads).append(value)
    reads += [
        Path(text.removeprefix(_FILE_SCHEME)) for text in texts_in(request) if text.startswith(_FILE_SCHEME)
    ]
    return tuple(reads), tuple(writes)


def _forward(follower: Follower, on_progress: Callable[[Progress], None]) -> None:
    for line in follower.lines():
        try:
            progress = Progress.model_validate_json(line)
        except ValidationError:
            continue  # a native library wrote to the file before the worker took it over
        on_progress(progress)


def _result(request: JobRequest[ResultT], outcome: Outcome, answer: Path, log: Path) -> ResultT:
    said = _read_answer(answer)
    if said is None:
        raise _crash(request, outcome, log)
    if not said["ok"]:
        raise reported_error(said["error"], log=log)
    return cast("ResultT", request.result_type.model_validate(said["result"]))


def _read_answer(answer: Path) -> dict[str, Any] | None:
    try:
        return cast("dict[str, Any]", json.loads(answer.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def reported_error(error: dict[str, Any], *, log: Path | None = None) -> BwdeployError:
    """The error that a process of the worker described, as an exception of this one."""
    message, hint = error["message"], error.get("hint", "")
    match error["kind"]:
        case "recipe":
            findings = tuple(Finding(**finding) for finding in error.get("findings", ()))
            return RecipeError(
                findings or (Finding(rule="worker", severity="error", path="", message=message, hint=hint),)
            )
        case "host":
            return HostError(message, hint=hint)
        case "store":
            return StoreError(message, hint=hint)
        case _:
            lines = tuple(error.get("last_lines", ()))
            return ToolError(message, hint=hint, log=log, last_lines=lines)


def _crash(request: JobRequest[ResultT], outcome: Outcome, log: Path) -> ToolError:
    out_of_memory = killed_by(outcome.status) is signal.SIGKILL
    hint = outcome.hint or (
        "This is often the kernel's out-of-memory killer: lower calibration.batch_size or seq_len,"
        " or free memory"
        if out_of_memory
        else "The log has the details; run the command again to continue"
    )
    job = request.entry.removeprefix("bwdeploy.worker.").split(":")[0]
    return ToolError(
        f"the worker process ({job}) {end_of(outcome)}", hint=hint, log=log, last_lines=last_lines(log)
    )
