"""Runs worker jobs as child processes of this machine.

The child gets the job as a JSON file, reports progress as JSON lines, writes everything else to a log file,
and dies with its parent. What went wrong comes back as one error of ours; the log keeps the traceback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from bwdeploy.errors import (
    BwdeployError,
    Finding,
    HostError,
    InterruptedBuild,
    RecipeError,
    StoreError,
    ToolError,
)
from bwdeploy.pipeline.jobs import JobRequest, Progress, ResultT, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

_STOP_TIMEOUT_S = 10
_SHOWN_LINES = 15
_LOG_TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalExecutor:
    """The executor `local`."""

    python: str = sys.executable
    """The interpreter of the environment that has torch and ModelOpt."""

    def run(
        self, request: JobRequest[ResultT], *, log: Path, on_progress: Callable[[Progress], None]
    ) -> ResultT:
        """Run `request` in a child process and wait for it; see `Executor.run`."""
        with tempfile.TemporaryDirectory(prefix="bwdeploy-job-") as directory:
            job, result = Path(directory, "job.json"), Path(directory, "result.json")
            job.write_text(
                json.dumps(
                    {
                        "entry": request.entry,
                        "request": to_json(request),
                        "result": str(result),
                        "parent_pid": os.getpid(),
                    }
                )
            )
            status = self._wait(job, log, on_progress)
            answer = _read_answer(result)
        if answer is None:
            raise _crash(request, status, log)
        if not answer["ok"]:
            raise _reported(answer["error"], log)
        return cast("ResultT", request.result_type.model_validate(answer["result"]))

    def _wait(self, job: Path, log: Path, on_progress: Callable[[Progress], None]) -> int:
        with (
            log.open("wb") as log_file,
            subprocess.Popen(
                [self.python, "-m", "bwdeploy.worker", str(job)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                cwd=job.parent,
                start_new_session=True,
                text=True,
            ) as worker,
        ):
            try:
                for line in worker.stdout or ():
                    _forward(line, on_progress)
                return worker.wait()
            except KeyboardInterrupt as interrupt:
                raise InterruptedBuild(
                    "interrupted", hint="Run the same command again: finished stages are kept"
                ) from interrupt
            finally:
                _stop(worker)


def _forward(line: str, on_progress: Callable[[Progress], None]) -> None:
    try:
        progress = Progress.model_validate_json(line)
    except ValidationError:
        return  # a native library wrote to the pipe before the worker took it over
    on_progress(progress)


def _stop(worker: subprocess.Popen[str]) -> None:
    """End the worker and everything it started."""
    if worker.poll() is not None:
        return
    os.killpg(worker.pid, signal.SIGTERM)
    try:
        worker.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def _read_answer(result: Path) -> dict[str, Any] | None:
    try:
        return cast("dict[str, Any]", json.loads(result.read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _reported(error: dict[str, Any], log: Path) -> BwdeployError:
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
            return ToolError(message, hint=hint, log=log)


def _crash(request: JobRequest[ResultT], status: int, log: Path) -> ToolError:
    how = (
        f"was killed by signal {-status} ({signal.Signals(-status).name})"
        if status < 0
        else f"ended with status {status}"
    )
    out_of_memory = status == -signal.SIGKILL
    hint = (
        "This is often the kernel's out-of-memory killer: lower calibration.batch_size or seq_len,"
        " or free memory"
        if out_of_memory
        else "The log has the details; run the command again to continue"
    )
    job = request.entry.removeprefix("bwdeploy.worker.").split(":")[0]
    return ToolError(f"the worker process ({job}) {how}", hint=hint, log=log, last_lines=last_lines(log))


def last_lines(log: Path) -> tuple[str, ...]:
    """The last lines of a log file, for an error message."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return tuple(line for line in lines if line.strip())[-_SHOWN_LINES:]
