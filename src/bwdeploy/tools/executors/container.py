"""Run commands in a container of docker or podman on this machine; see `enroot` for the third program."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bwdeploy.errors import HostError
from bwdeploy.tools.executors.container_image import found_image, present_image
from bwdeploy.tools.executors.container_run import chosen_gpus, run_command
from bwdeploy.tools.executors.guarded import run_guarded
from bwdeploy.tools.executors.images import chosen_image
from bwdeploy.tools.executors.launch import Outcome, last_lines, start_afresh
from bwdeploy.tools.executors.local import needs_more_nodes, under_mpi
from bwdeploy.tools.triton_container import removal_command

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import ProgramNeed
    from bwdeploy.tools.executors.launch import Launch, Watch
    from bwdeploy.tools.executors.settings import ContainerSettings

_REFUSED = 125
_NOT_STARTED = frozenset({126, 127})
_NO_SUCH_PROGRAM = ("executable file not found", "executable file `", "no such file or directory: unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLauncher:
    """The place `container`, with docker or podman."""

    settings: ContainerSettings
    image: str | None
    """None: the one that carries the TensorRT-LLM that is asked for."""
    passed: tuple[str, ...] = ()
    """Variables of this process that jobs get too."""
    kind: Literal["container"] = "container"

    def require(self, need: ProgramNeed) -> None:
        """See `Launcher.require`; an image that `run` may fetch need not be here."""
        program, image = self._chosen(need)
        present_image(program, image, fetch=self._fetches)

    def run(self, launch: Launch, watch: Watch) -> Outcome:
        """Run it in a container of its own; see `Launcher.run`."""
        program, image = self._chosen(launch.need)
        name = container_name()
        command = (
            *run_command(program, self.settings, launch, name=name, passed=self.passed),
            image,
            *under_mpi(launch.command, tasks=launch.tasks),
        )
        start_afresh(launch)
        client = dict(os.environ)
        digest = found_image(program, image, launch, watch, fetch=self._fetches, environment=client)
        cleanup = removal_command(Path(program), name=name)
        status = run_guarded(command, launch, watch, environment=client, cleanup=cleanup)
        _require_started(status, program, launch, image)
        return Outcome(status=status, command=command, image=image, image_digest=digest)

    @property
    def _fetches(self) -> bool:
        return self.settings.pull == "missing"

    def _chosen(self, need: ProgramNeed) -> tuple[str, str]:
        """The container program and the image."""
        if need.nodes > 1:
            raise needs_more_nodes(need)
        program = container_program(self.settings)
        image = chosen_image(self.image, tensorrt_llm=need.tensorrt_llm)
        chosen_gpus(self.settings.gpus, need.gpus)
        return program, image


def container_program(settings: ContainerSettings) -> str:
    """The path of docker or podman.

    Raises:
        HostError: there is none on PATH.
    """
    wanted = (settings.program,) if settings.program else ("docker", "podman")
    for program in wanted:
        path = shutil.which(program)
        if path is not None:
            return path
    raise HostError(
        f"There is no {' or '.join(wanted)} on PATH",
        hint="Install it, name another with container.program in the executor file, or use --executor local",
    )


def container_name() -> str:
    """A name that no other container has."""
    return f"bwdeploy-{secrets.token_hex(6)}"


def _require_started(status: int, program: str, launch: Launch, image: str) -> None:
    """Failures of docker itself are failures of the place, not of the command that should have run in it."""
    lines = last_lines(launch.log)
    said = next((line for line in reversed(lines) if line.lower().startswith(("docker:", "error:"))), "")
    if status == _REFUSED and said:
        raise HostError(
            f"{Path(program).name} did not start the container: {said}",
            hint="With GPUs it needs the NVIDIA Container Toolkit; container.gpus: none runs without them",
        )
    if status in _NOT_STARTED and any(words in said.lower() for words in _NO_SUCH_PROGRAM):
        raise HostError(
            f"The image {image} has no program {launch.command[0]}",
            hint="Name an image with TensorRT-LLM, or its path in the image under tools in the executor file",
        )
