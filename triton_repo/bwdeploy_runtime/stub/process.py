"""Starts and ends the engine process; the only module of the stub side that starts a process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from bwdeploy_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PYTHON_VARIABLE = "BWDEPLOY_ENGINE_PYTHON"
"""Environment variable with the interpreter of the engine process; without it: python3 of the PATH."""
_STUB_ONLY_VARIABLES = ("PYTHONHOME", "VIRTUAL_ENV", PYTHON_VARIABLE)
_STUB_ONLY_LIBRARIES = "nvidia_pytriton.libs"
# Under mpirun the engine's own MPI workers would take these for theirs; settings (OMPI_MCA_*) stay.
_MPI_JOB_PREFIXES = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_MCA_orte_", "ORTE_", "PMIX_", "PMI_")
_LOG_TAIL_LINES = 5
_LOG_TAIL_BYTES = 8192
_EXIT_WAIT_S = 10.0


def engine_python(environ: Mapping[str, str]) -> str:
    """The interpreter that runs the engine.

    Raises:
        EngineError: there is none.
    """
    named = environ.get(PYTHON_VARIABLE)
    python = shutil.which(named or "python3", path=environ.get("PATH"))
    if python is None:
        where = f"{PYTHON_VARIABLE}={named}" if named else "python3 on the PATH"
        raise EngineError(
            f"no Python for the engine: {where} is not there or cannot be run. Set {PYTHON_VARIABLE} to the "
            "python of the environment with torch or tensorrt_llm."
        )
    return python


def engine_environment(environ: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """The stub's environment without what only concerns the stub, and with what `added` sets."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _STUB_ONLY_VARIABLES and not name.startswith(_MPI_JOB_PREFIXES)
    }
    libraries = kept.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    kept["LD_LIBRARY_PATH"] = os.pathsep.join(
        path for path in libraries if path and _STUB_ONLY_LIBRARIES not in path
    )
    if not kept["LD_LIBRARY_PATH"]:
        del kept["LD_LIBRARY_PATH"]
    # The version directory may be read-only, and what was built stays as it was built.
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(added)


class EngineProcess:
    """A running `bwdeploy_runtime.worker` in a session of its own."""

    def __init__(
        self, directory: Path, *, socket_path: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        """Start it; must be called from a thread that outlives the process (see worker.die_with_parent).

        Raises:
            EngineError: it cannot be started.
        """
        command = [
            engine_python(os.environ),
            "-m",
            "bwdeploy_runtime.worker",
            "--socket",
            str(socket_path),
            "--config",
            str(directory / "engine.json"),
        ]
        self._log = log
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    cwd=directory,
                    env=engine_environment(os.environ, environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"the engine process cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):  # the whole group is gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_EXIT_WAIT_S)

    def describe_end(self) -> str:
        """How it ended, in words."""
        code = self._process.poll()
        if code is None:
            return "still runs"
        if code < 0:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"

    def last_lines(self) -> str:
        """The last lines of its log."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LOG_TAIL_BYTES))
            tail = log.read().decode("utf-8", "replace")
        return "\n".join(tail.strip().splitlines()[-_LOG_TAIL_LINES:])
