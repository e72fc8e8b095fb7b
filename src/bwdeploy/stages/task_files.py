"""How the lm-eval tasks that a recipe names enter the gate: a task file by its content and that of its data.

What runs is a copy beside the job's other files, so that an executor need not know where the user keeps them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bwdeploy.accuracy.task_file import TaskFile, TaskFileError, read_task_file
from bwdeploy.errors import Finding, RecipeError
from bwdeploy.pipeline.trees import link_or_copy
from bwdeploy.recipe.uris import FILE_SCHEME, file_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bwdeploy.recipe.schema import GateTask


def placed_tasks(tasks: Sequence[GateTask]) -> list[dict[str, Any]]:
    """The tasks as they enter the key: without the margin, which is a limit, and without places."""
    placed = []
    for task in tasks:
        said = task.model_dump(mode="json", exclude={"margin"})
        placed.append(said | ({"task": FILE_SCHEME} if task.task.startswith(FILE_SCHEME) else {}))
    return placed


def task_sources(tasks: Sequence[GateTask]) -> dict[str, Path]:
    """All files of the tasks, as sources of a step.

    Raises:
        RecipeError: a task file cannot be used.
    """
    sources: dict[str, Path] = {}
    for number, task in enumerate(tasks):
        if task.task.startswith(FILE_SCHEME):
            read = _read(file_of(task.task), number)
            named = {"": read.task_files, "data": read.data_files}
            for kind, files in named.items():
                sources |= {f"task{number}{kind}{index}": file for index, file in enumerate(files)}
    return sources


def found_tasks(
    placed: Sequence[dict[str, Any]], sources: Mapping[str, Path], *, scratch: Path
) -> list[dict[str, Any]]:
    """The tasks as the worker reads them: each file's copy in `scratch`, with its data beside it."""
    found = []
    for number, task in enumerate(placed):
        if task["task"] != FILE_SCHEME:
            found.append(task)
            continue
        read = _read(sources[f"task{number}0"], number)
        found.append(task | {"task": f"{FILE_SCHEME}{_copy(read, scratch / f'task{number}')}"})
    return found


def _read(file: Path, number: int) -> TaskFile:
    try:
        return read_task_file(file)
    except TaskFileError as error:
        place = f"gate.tasks[{number}].task"
        finding = Finding("gate-task-file", "error", place, error.message, error.hint)
        raise RecipeError((finding,)) from error


def _copy(task: TaskFile, directory: Path) -> Path:
    names = {str(file): f"{index}-{file.name}" for index, file in enumerate(task.data_files)}
    for file in task.data_files:
        target = directory / names[str(file)]
        if not target.exists():  # a job that outlived an earlier process reads it already
            link_or_copy(file, target)
    options = task.config["dataset_kwargs"]
    moved = options | {"data_files": _renamed(options["data_files"], names)}
    path = directory / "task.yaml"
    path.write_text(json.dumps(task.config | {"dataset_kwargs": moved}), encoding="utf-8")
    return path


def _renamed(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - JSON data has no narrower type
    if isinstance(value, dict):
        return {split: _renamed(one, names) for split, one in value.items()}
    return [_renamed(one, names) for one in value] if isinstance(value, list) else names[value]
