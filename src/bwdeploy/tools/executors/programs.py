"""Run an outside program of TensorRT-LLM through a launcher, and say well how it failed."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from bwdeploy.engines.failures import hint_for_log
from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import Progress, ToolResult
from bwdeploy.tools.executors.launch import (
    Launch,
    Watch,
    end_of,
    identity_of,
    killed_by,
    last_lines,
    log_tail,
)
from bwdeploy.tools.executors.log_progress import LogProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bwdeploy.pipeline.jobs import ProgramNeed, ToolRun
    from bwdeploy.tools.executors.launch import Launcher, Outcome

_OUT_OF_MEMORY_HINT = (
    "This is often the kernel's out-of-memory killer: use a machine with more memory, or fewer --workers"
)
_PLAIN_HINT = "The log has the details; the same command continues after the stages that are finished"


def run_program(
    launcher: Launcher,
    tool: ToolRun,
    *,
    launch: Launch,
    on_progress: Callable[[Progress], None],
) -> ToolResult:
    """Run `tool` as `launch` says and wait for it; see `Executor.run_tool`."""
    shown = LogProgress(launch.log, on_progress)
    shown.tell(Progress(phase=_name(tool), detail=f"log: {launch.log}"))
    began = time.monotonic()
    outcome = launcher.run(launch, Watch(shown.tell, shown.look))
    if outcome.status != 0:
        raise _failure(tool, outcome, launch.log)
    return ToolResult(
        command=outcome.command,
        executor=launcher.kind,
        seconds=round(time.monotonic() - began, 3),
        image=outcome.image,
        image_digest=outcome.image_digest,
    )


def launch_of(tool: ToolRun, *, paths: Mapping[str, str], log: Path, scratch: Path) -> Launch:
    """The launch of a program; `paths` says where programs lie that are not on PATH there."""
    return Launch(
        command=(program_path(tool, paths), *tool.arguments),
        scratch=scratch,
        log=log,
        identity=identity_of(tool.model_dump_json()),
        reads=tool.reads,
        writes=tool.writes,
        environment=tool.environment,
        gpus=tool.gpus,
        nodes=tool.nodes,
        tasks=tool.tasks,
        tensorrt_llm=tool.tensorrt_llm,
    )


def program_path(need: ProgramNeed, paths: Mapping[str, str]) -> str:
    """What to call the program where it runs: its path, or its name when it is on PATH there."""
    return paths.get(need.program, need.program)


def _name(tool: ToolRun) -> str:
    """What people call it: a script by its own name, not by that of its interpreter."""
    is_script = bool(tool.arguments) and tool.arguments[0].endswith(".py")
    return tool.arguments[0].rpartition("/")[2] if is_script else tool.program


def _failure(tool: ToolRun, outcome: Outcome, log: Path) -> ToolError:
    killed = killed_by(outcome.status) is signal.SIGKILL
    hint = outcome.hint or hint_for_log(log_tail(log)) or (_OUT_OF_MEMORY_HINT if killed else _PLAIN_HINT)
    hint = hint[:1].upper() + hint[1:]
    return ToolError(f"{_name(tool)} {end_of(outcome)}", hint=hint, log=log, last_lines=last_lines(log))
