"""Run commands on this machine, with its programs and its environment."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bwdeploy.errors import HostError
from bwdeploy.facts.stacks import triton_image
from bwdeploy.tools.executors.guarded import run_guarded
from bwdeploy.tools.executors.launch import Outcome, start_afresh

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import ProgramNeed
    from bwdeploy.tools.executors.launch import Launch, Watch

_DISTRIBUTION = "tensorrt_llm"
_MPIRUN = "mpirun"


@dataclass(frozen=True, slots=True)
class LocalLauncher:
    """The place `local`."""

    kind: Literal["local"] = "local"

    def require(self, need: ProgramNeed) -> None:
        """See `Launcher.require`."""
        _found(need)

    def run(self, launch: Launch, watch: Watch) -> Outcome:
        """Run it as a child of this process; see `Launcher.run`."""
        command = under_mpi((_found(launch.need), *launch.command[1:]), tasks=launch.tasks)
        start_afresh(launch)
        status = run_guarded(command, launch, watch, environment={**os.environ, **launch.environment})
        return Outcome(status=status, command=command)


def found_program(program: str, *, tensorrt_llm: str) -> str:
    """The path of a program on PATH that belongs to this TensorRT-LLM, as far as that can be known.

    Raises:
        HostError: there is none, or it belongs to another version.
    """
    path = shutil.which(program)
    if path is None:
        raise HostError(f"There is no program {program} on PATH", hint=_missing_hint(tensorrt_llm))
    installed = _version_beside(Path(path)) if tensorrt_llm else ""
    if installed and installed != tensorrt_llm:
        raise HostError(
            f"{path} belongs to TensorRT-LLM {installed}; the recipe asks for {tensorrt_llm}",
            hint=f"Set engine.tensorrt_llm to {installed}, or activate the environment with {tensorrt_llm}",
        )
    return path


def needs_more_nodes(need: ProgramNeed) -> HostError:
    """The error for a command that spans machines."""
    return HostError(
        f"{need.program} needs {need.nodes} nodes, and this executor has one",
        hint="Run it on a cluster: --executor slurm",
    )


def under_mpi(command: tuple[str, ...], *, tasks: int) -> tuple[str, ...]:
    """The command as one MPI world of `tasks` processes on one machine."""
    return (_MPIRUN, "-n", str(tasks), *command) if tasks > 1 else command


def _found(need: ProgramNeed) -> str:
    """The path of the program here."""
    if need.nodes > 1:
        raise needs_more_nodes(need)
    path = found_program(need.program, tensorrt_llm=need.tensorrt_llm)
    if need.tasks > 1:
        found_program(_MPIRUN, tensorrt_llm="")
    return path


def _missing_hint(tensorrt_llm: str) -> str:
    if not tensorrt_llm:
        return "Install it, or add its directory to PATH"
    image = triton_image(tensorrt_llm)
    where = f" in the image {image}, which carries TensorRT-LLM {tensorrt_llm}" if image else ""
    return f"Run it with --executor container{where}, or activate an environment that has TensorRT-LLM"


def _version_beside(program: Path) -> str:
    """Version of TensorRT-LLM in the Python environment that a program is part of; empty when unknown."""
    for metadata in program.parent.parent.glob(f"lib/python3*/*-packages/{_DISTRIBUTION}-*.dist-info"):
        version = metadata.name.removeprefix(f"{_DISTRIBUTION}-").removesuffix(".dist-info")
        return version.partition("+")[0]
    return ""
