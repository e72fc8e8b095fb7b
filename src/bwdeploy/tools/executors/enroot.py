"""Run commands in a container of enroot: unpacked from a .sqsh file, started, removed.

enroot shares the network and the devices' host with the job; it gives it the mounts, the variables and the
image that are named here, and no home directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bwdeploy.errors import HostError, InterruptedBuild
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.tools.executors.container import container_name
from bwdeploy.tools.executors.container_run import chosen_gpus, environment_inside, mounted
from bwdeploy.tools.executors.guarded import run_guarded
from bwdeploy.tools.executors.images import chosen_image, enroot_reference
from bwdeploy.tools.executors.launch import Outcome, last_lines, start_afresh
from bwdeploy.tools.executors.local import needs_more_nodes, under_mpi
from bwdeploy.tools.triton_container import image_for

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import ProgramNeed
    from bwdeploy.tools.executors.launch import Launch, Watch
    from bwdeploy.tools.executors.settings import ContainerSettings

_SEPARATORS: Final = frozenset(" \t\n:,")
"""enroot and pyxis split a mount at these and know no quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrootLauncher:
    """The place `container`, with enroot."""

    settings: ContainerSettings
    image: str | None
    passed: tuple[str, ...] = ()
    kind: Literal["container"] = "container"

    def require(self, need: ProgramNeed) -> None:
        """See `Launcher.require`."""
        self._chosen(need)

    def run(self, launch: Launch, watch: Watch) -> Outcome:
        """Run it in a container of its own; see `Launcher.run`."""
        program, image = self._chosen(launch.need)
        name = container_name()
        start_afresh(launch)
        self._create(program, image, name, launch, watch)
        command = self._start_command(program, name, launch)
        status = run_guarded(
            command, launch, watch, environment=_client(), cleanup=_removal_command(program, name)
        )
        return Outcome(status=status, command=command, image=image)

    def _chosen(self, need: ProgramNeed) -> tuple[str, str]:
        """The path of enroot and that of the image."""
        if need.nodes > 1:
            raise needs_more_nodes(need)
        if self.settings.network == "none":
            raise HostError(
                "enroot cannot cut a job off from the network, and container.network is none",
                hint="Use docker or podman, or set container.network to auto",
            )
        program = _enroot()
        image = chosen_image(str(self._image_file(need.tensorrt_llm)), tensorrt_llm=need.tensorrt_llm)
        chosen_gpus(self.settings.gpus, need.gpus)
        return program, image

    def _image_file(self, tensorrt_llm: str) -> Path:
        if self.image is not None and Path(self.image).is_file():
            return Path(self.image).absolute()
        reference = self.image or image_for(tensorrt_llm)
        problem = f"{self.image} is no file" if self.image else "enroot needs a .sqsh file"
        uri = "docker://" + enroot_reference(reference if not reference.endswith(".sqsh") else "IMAGE")
        raise HostError(
            f"{problem}: container.image must name one",
            hint=f"Make it: enroot import --output triton.sqsh {uri}",
        )

    def _create(self, program: str, image: str, name: str, launch: Launch, watch: Watch) -> None:
        watch.on_progress(Progress(phase=f"unpack {Path(image).name}"))
        command = (program, "create", f"--name={name}", image)
        try:
            status = run_guarded(command, launch._replace(output=None), watch, environment=_client())
        except InterruptedBuild:
            _remove(program, name)
            raise
        if status != 0:
            _remove(program, name)
            reason = (last_lines(launch.log) or ("it gave no reason",))[-1]
            raise HostError(
                f"enroot could not unpack {image}: {reason}",
                hint="It needs free space for the whole image in ENROOT_DATA_PATH",
            )

    def _start_command(self, program: str, name: str, launch: Launch) -> tuple[str, ...]:
        return (
            program,
            "start",
            "--rw",  # the container is this job's own and goes with it
            *(f"--mount={_fstab(path, writable=writable)}" for path, writable in mounted(launch)),
            *(f"--env={key}={value}" for key, value in self._environment(launch).items()),
            *(f"--env={key}" for key in self.passed if key in os.environ),
            name,
            "env",  # an image's start script may change the directory; this comes after it
            f"--chdir={launch.scratch}",
            *under_mpi(launch.command, tasks=launch.tasks),
        )

    def _environment(self, launch: Launch) -> dict[str, str]:
        gpus = chosen_gpus(self.settings.gpus, launch.gpus)
        visible = "all" if gpus is None else ",".join(gpus) or "void"
        return {
            "NVIDIA_VISIBLE_DEVICES": visible,
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            **environment_inside(launch),
        }


def require_mountable(path: Path) -> None:
    """Refuse a path that enroot and pyxis would take for several words.

    Raises:
        HostError: it holds one of their separators.
    """
    if _SEPARATORS & set(str(path)):
        raise HostError(
            f"{path} cannot be mounted by enroot: it holds a space, a colon or a comma",
            hint="Move the store or the model to a path without them (BWDEPLOY_STORE names the store)",
        )


def _fstab(path: Path, *, writable: bool) -> str:
    require_mountable(path)
    return f"{path}:{path}:none:x-create=auto,rbind,{'rw' if writable else 'ro'}"


def _enroot() -> str:
    path = shutil.which("enroot")
    if path is None:
        raise HostError(
            "There is no enroot on PATH", hint="Install it, or set container.program to docker or podman"
        )
    return path


def _removal_command(program: str, name: str) -> tuple[str, ...]:
    return (program, "remove", "--force", name)


def _remove(program: str, name: str) -> None:
    subprocess.run(
        _removal_command(program, name), capture_output=True, check=False, stdin=subprocess.DEVNULL
    )


def _client() -> dict[str, str]:
    """The environment of enroot itself; the job inside gets none of it."""
    return {**os.environ, "ENROOT_MOUNT_HOME": "no"}
