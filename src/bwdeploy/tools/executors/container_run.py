"""The command line of `docker run` and `podman run` for one job. It starts nothing.

Mounted is what the job names, each path at the same place inside as outside, and nothing else. The job has
your user and group, no capabilities, no new privileges, and no network unless it downloads something.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import HostError
from bwdeploy.tools.container_options import bind_mount, gpu_options
from bwdeploy.tools.triton_request import STACK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bwdeploy.tools.executors.launch import Launch
    from bwdeploy.tools.executors.settings import ContainerSettings, GpuChoice

HOME_INSIDE: Final = "/tmp"  # noqa: S108 - of the container, gone with it
_USER_INSIDE: Final = "bwdeploy"
_SHARED_MEMORY: Final = "16g"


def run_command(
    program: str, settings: ContainerSettings, launch: Launch, *, name: str, passed: Iterable[str] = ()
) -> tuple[str, ...]:
    """`PROGRAM run …` up to the image, for docker or podman (by the name of `program`).

    `passed` names variables of this process that the job gets too; their values stay off the command line.

    Raises:
        HostError: the job needs more GPUs than the settings give.
    """
    podman = program.endswith("podman")
    return (
        program,
        "run",
        "--rm",
        "--init",
        f"--name={name}",
        "--pull=never",  # it was looked for, and fetched where that is wanted, before
        *_user_options(settings.user, podman=podman),
        *gpu_options(chosen_gpus(settings.gpus, launch.gpus), podman=podman),
        *_network_options(settings, launch),
        *(
            f"--mount={bind_mount(path, target=path, writable=writable)}"
            for path, writable in mounted(launch)
        ),
        f"--workdir={launch.scratch}",
        f"--shm-size={_SHARED_MEMORY}",
        *_limit_options(podman=podman),
        "--cap-drop=ALL",
        # SELinux would hide the mounts and the GPUs; relabeling the store for one container is no way out.
        *(("--security-opt=label=disable",) if podman else ()),
        "--security-opt=no-new-privileges",
        *(f"--env={name}={value}" for name, value in environment_inside(launch).items()),
        *(f"--env={name}" for name in passed if name in os.environ),
    )


def environment_inside(launch: Launch) -> dict[str, str]:
    """What a job in a container gets: a home, a user name (torch asks for one), and its own variables."""
    return {"HOME": HOME_INSIDE, "USER": _USER_INSIDE, "LOGNAME": _USER_INSIDE, **launch.environment}


def mounted(launch: Launch) -> tuple[tuple[Path, bool], ...]:
    """Every path that the job may touch and whether it may write there; parents before children."""
    writable = dict.fromkeys(launch.reads, False) | dict.fromkeys((*launch.writes, launch.scratch), True)
    return tuple(sorted(writable.items()))


def chosen_gpus(choice: GpuChoice, needed: int) -> tuple[str, ...] | None:
    """The GPUs of a job: indices or UUIDs, or None for all of the machine.

    Raises:
        HostError: fewer are chosen than the job needs.
    """
    if choice == "all":
        return None
    if choice == "auto":
        return tuple(map(str, range(needed)))
    chosen = () if choice == "none" else tuple(map(str, choice))
    if len(chosen) < needed:
        raise HostError(
            f"The job needs {needed} GPUs, and container.gpus gives {len(chosen)}",
            hint="Name more GPUs in the executor file, or set container.gpus to auto",
        )
    return chosen


def _limit_options(*, podman: bool) -> tuple[str, ...]:
    """Locked memory and stack; podman without root fails where it would raise our own."""
    limits = {"memlock": (resource.RLIMIT_MEMLOCK, -1), "stack": (resource.RLIMIT_STACK, STACK_BYTES)}
    own = podman and os.getuid() != 0
    return tuple(
        f"--ulimit={name}={value}:{value}"
        for name, (kind, wanted) in limits.items()
        for value in [_no_more_than(resource.getrlimit(kind)[1], wanted) if own else wanted]
    )


def _no_more_than(hard: int, wanted: int) -> int:
    """The lower of two limits; -1 stands for none."""
    return wanted if hard == resource.RLIM_INFINITY else hard if wanted < 0 else min(hard, wanted)


def _user_options(user: str, *, podman: bool) -> tuple[str, ...]:
    """Files that the job writes belong to you; root (yours or the image's) may still read private ones."""
    as_root = ("--cap-add=DAC_OVERRIDE",)
    if user == "image":
        return as_root
    mapped = f"--user={os.getuid()}:{os.getgid()}"
    if os.getuid() == 0:
        return (mapped, *as_root)
    return ("--userns=keep-id", mapped) if podman else (mapped,)


def _network_options(settings: ContainerSettings, launch: Launch) -> tuple[str, ...]:
    if settings.network != "auto":
        return (f"--network={settings.network}",)
    return () if launch.network else ("--network=none",)
