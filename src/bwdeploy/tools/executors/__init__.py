"""Where the jobs of a build run: on this machine, in a container, or on a Slurm cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from bwdeploy.errors import argument_error
from bwdeploy.places import executor_file
from bwdeploy.recipe.words import nearest
from bwdeploy.tools.executors.executor import container_executor, local_executor, slurm_executor
from bwdeploy.tools.executors.settings import ExecutorName, ExecutorSettings
from bwdeploy.tools.executors.settings_file import read_settings
from bwdeploy.tools.executors.slurm import cancel_noted

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Executor

__all__ = ["cancel_noted", "local_executor", "open_executor"]


def open_executor(name: str | None, *, file: Path | None) -> Executor:
    """The executor called `name`, with the settings of `file` (default: $BWDEPLOY_EXECUTOR, or none).

    Without a name the file decides; without both it is `local`.

    Raises:
        RecipeError: there is no such executor, or the file is wrong.
    """
    names = get_args(ExecutorName)
    if name is not None and name not in names:
        near = nearest(name, names)
        hint = f"did you mean {near}" if near else f"The executors are {', '.join(names)}"
        raise argument_error(f"--executor: there is no executor {name!r}", hint)
    settings = _settings(file)
    match name or settings.executor:
        case "container":
            return container_executor(settings)
        case "slurm":
            return slurm_executor(settings)
        case _:
            return local_executor(tools=settings.tools)


def _settings(file: Path | None) -> ExecutorSettings:
    named = file or executor_file()
    return read_settings(named) if named else ExecutorSettings()
