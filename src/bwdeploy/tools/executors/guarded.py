"""Run a command of this machine under a guard and wait for it.

The guard (`tools.guarded_process`) ends the command and all that it started when it is stopped, and also
when bwdeploy is killed without a word.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from bwdeploy.errors import InterruptedBuild
from bwdeploy.tools.guarded_process import GuardedCommand, GuardedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.tools.executors.launch import Launch, Watch

_POLL_S = 0.03
_GRACE_S = 10.0


def run_guarded(
    command: tuple[str, ...],
    launch: Launch,
    watch: Watch,
    *,
    environment: Mapping[str, str],
    cleanup: tuple[str, ...] = (),
) -> int:
    """Run `command` with the files and the directory of `launch`; `cleanup` runs after its end.

    Returns:
        Its exit status; 128 + n when signal n killed it.

    Raises:
        ToolError: it could not be started.
        InterruptedBuild: the user interrupted; it and everything it started is gone.
    """
    stack_bytes, _ = resource.getrlimit(resource.RLIMIT_STACK)
    job = GuardedCommand(
        command=command,
        env=environment,
        cwd=str(launch.scratch),
        log=str(launch.log),
        output=str(launch.output) if launch.output else "",
        grace_s=_GRACE_S,
        stack_bytes=stack_bytes,
        cleanup=cleanup,
    )
    try:
        return _wait(GuardedProcess(job), watch)
    except KeyboardInterrupt as interrupt:
        raise interrupted() from interrupt


def interrupted(hint: str = "", *, ended: str = "") -> InterruptedBuild:
    """The error for Ctrl-C; `ended` says what was ended for it elsewhere."""
    return InterruptedBuild(
        f"interrupted; {ended}" if ended else "interrupted",
        hint=hint or "Run the same command again: finished stages are kept",
    )


def _wait(process: GuardedProcess, watch: Watch) -> int:
    try:
        while (status := process.poll()) is None:
            watch.look()
            time.sleep(_POLL_S)
        watch.look()
        return status
    finally:
        process.stop()
