"""The batch script of one job and the options it is submitted with. Pure: it starts and writes nothing.

The options travel on sbatch's command line, where no variable of the user's environment can override them
and nothing needs quoting. The script is the one shell file of bwdeploy; every word in it is quoted.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from bwdeploy.tools.executors.container_run import environment_inside, mounted
from bwdeploy.tools.executors.enroot import require_mountable
from bwdeploy.tools.executors.images import chosen_image, enroot_reference
from bwdeploy.tools.executors.sbatch_options import option_words
from bwdeploy.tools.triton_container import image_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bwdeploy.tools.executors.launch import Launch
    from bwdeploy.tools.executors.settings import SlurmSettings

AUTOMATIC_IMAGE: Final = "auto"
_CPUS: Final = "cpus-per-task"
_EXPORTED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HF_HUB_OFFLINE")
"""Variables that a job gets from here, and no others: a cluster keeps the environment of every job."""
_EXPORTED_OUTSIDE: Final = ("PYTHONPATH", "VIRTUAL_ENV", "CUDA_HOME", "HF_HOME", "MODULEPATH", "TMPDIR")
"""More for jobs outside containers: directories that a container lacks (pyxis hands on all it finds)."""


def image_of(settings: SlurmSettings, *, tensorrt_llm: str) -> str | None:
    """The container image of a job as pyxis reads it, or None for no container.

    Raises:
        HostError: it is known to carry another TensorRT-LLM, or none is known to carry this one.
    """
    if settings.container_image is None or not tensorrt_llm:
        return None
    if settings.container_image == AUTOMATIC_IMAGE:
        return enroot_reference(image_for(tensorrt_llm))
    return enroot_reference(chosen_image(settings.container_image, tensorrt_llm=tensorrt_llm))


def exported_names(present: Mapping[str, str], passed: Iterable[str], *, contained: bool) -> tuple[str, ...]:
    """The variables of `present` that a job gets, those in `passed` with them."""
    names = (*_EXPORTED, *(() if contained else _EXPORTED_OUTSIDE), *passed)
    return tuple(name for name in dict.fromkeys(names) if name in present)


def submit_words(
    settings: SlurmSettings, launch: Launch, *, name: str, exported: tuple[str, ...]
) -> tuple[str, ...]:
    """The options of sbatch; `exported` names the variables that the job gets from here."""
    named = {
        "partition": settings.partition,
        "account": settings.account,
        "time": settings.time_limit,
    }
    return (
        f"--job-name={name}",
        f"--export={','.join(exported) or 'NIL'}",
        "--no-requeue",  # a second run over half-written files is ours to decide
        *(f"--{option}={value}" for option, value in named.items() if value is not None),
        *_resources(settings, launch),
        *option_words(settings.options),
    )


def srun_words(settings: SlurmSettings, launch: Launch, *, image: str | None) -> tuple[str, ...]:
    """`srun … COMMAND`: one task for each process of the job.

    Raises:
        HostError: a path cannot be mounted.
    """
    cpus = settings.options.get(_CPUS)  # srun of Slurm 22.05 to 24.05 does not take this over from sbatch
    return (
        "srun",
        "--export=ALL",  # else srun would repeat the choice of sbatch and drop what the script sets
        "--kill-on-bad-exit=1",
        *_tasks(launch),
        *((f"--{_CPUS}={cpus}",) if cpus else ()),
        *((f"--mpi={settings.mpi}",) if launch.tasks > 1 else ()),
        *(_container_words(launch, image) if image else ()),
        *launch.command,
    )


def script_text(srun: tuple[str, ...], *, environment: Mapping[str, str], status_file: Path) -> str:
    """The batch script: it sets the job's variables, runs `srun` and leaves the exit status in a file."""
    partial = status_file.with_suffix(".partial")
    exports = [f"export {shlex.quote(name)}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(
        (
            "#!/bin/bash",
            *exports,
            shlex.join(srun),
            "status=$?",
            f'echo "$status" > {shlex.quote(str(partial))}',
            shlex.join(("mv", str(partial), str(status_file))),
            'exit "$status"',
            "",
        )
    )


def script_environment(launch: Launch, *, image: str | None) -> dict[str, str]:
    """The variables that the script sets."""
    return environment_inside(launch) if image else dict(launch.environment)


def _tasks(launch: Launch) -> tuple[str, ...]:
    spread = (f"--ntasks-per-node={launch.tasks // launch.nodes}",) if launch.tasks > 1 else ()
    return (f"--nodes={launch.nodes}", f"--ntasks={launch.tasks}", *spread)


def _resources(settings: SlurmSettings, launch: Launch) -> tuple[str, ...]:
    gpus = launch.gpus if settings.gpus_per_node is None else settings.gpus_per_node
    return (*_tasks(launch), *((f"--gpus-per-node={gpus}",) if gpus and launch.gpus else ()))


def _container_words(launch: Launch, image: str) -> tuple[str, ...]:
    mounts = ",".join(_mount(path, writable=writable) for path, writable in mounted(launch))
    return (
        f"--container-image={image}",
        f"--container-mounts={mounts}",
        f"--container-workdir={launch.scratch}",
        f"--container-env={','.join(environment_inside(launch))}",
        "--no-container-mount-home",
        "--container-writable",  # the container is this job's own and goes with it
    )


def _mount(path: Path, *, writable: bool) -> str:
    require_mountable(path)
    return f"{path}:{path}" if writable else f"{path}:{path}:ro"
