"""Tasks of lm-eval, by name or from a file, with their questions.

A task of the user's file brings data and templates, never code (`accuracy.task_file`); templates of every
task are rendered in a sandbox, where they reach nothing but the question. Tasks that lm-eval ships may bring
its own functions, but none that runs what a model has written.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from bwdeploy.accuracy.task_file import TaskFileError, read_task_file
from bwdeploy.recipe.uris import FILE_SCHEME, file_of
from bwdeploy.recipe.words import nearest
from bwdeploy.tools.lm_eval import LM_EVAL, require_lm_eval
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.process import show_scikit_learn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bwdeploy.recipe.schema import GateTask

_AVERAGED = ("mean", "nanmean")
_UNUSABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, TemplateError)
"""What lm-eval, `datasets` and templates raise over a task that is wrong or whose data is not there."""


class LoadedTask(NamedTuple):
    """A task with its questions, ready to be asked."""

    path: str
    """Of the recipe, for messages."""
    name: str
    metric: str
    filter: str | None
    """lm-eval's name of the way that answers are cut out; None: the task's first."""
    higher_is_better: bool
    questions_each: int | None
    """Limit of each part of a group of tasks."""
    loaded: Any
    """lm-eval's own dictionary."""


def lm_eval_version() -> str:
    """The version of lm-eval that is installed."""
    return metadata.version(LM_EVAL)


def load_tasks(wanted: Sequence[GateTask], *, place: Path) -> tuple[LoadedTask, ...]:
    """Load all tasks with their data; what `datasets` converts goes to `place`.

    Raises:
        HostError: lm-eval is not installed.
        RecipeError: a task does not exist, cannot be loaded, or has no such metric.
    """
    require_lm_eval()
    show_scikit_learn()
    _sandbox_templates()
    manager = import_module("lm_eval.tasks").TaskManager(
        include_defaults=any(not task.task.startswith(FILE_SCHEME) for task in wanted)
    )
    return tuple(
        _load(manager, task, path=f"gate.tasks[{number}]", place=place) for number, task in enumerate(wanted)
    )


def _load(manager: Any, wanted: GateTask, *, path: str, place: Path) -> LoadedTask:  # noqa: ANN401
    spec = _spec(manager, wanted, path=path, place=place)
    try:
        loaded = manager.load([spec])
    except _UNUSABLE as error:
        raise recipe_error(
            f"{path}.task",
            f"{wanted.task} cannot be loaded: {type(error).__name__}: {error}",
            hint="Data of a hub needs a network; a task file with local data needs none.",
        ) from error
    parts = list(loaded["tasks"].values())
    if any(getattr(part, "UNSAFE_CODE", False) for part in parts):
        raise recipe_error(
            f"{path}.task",
            f"{wanted.task} runs code that the model writes",
            hint="Take a task that compares answers.",
        )
    for part in parts:
        part.set_config(key="num_fewshot", value=_few_shot(part, wanted))
    metric, _, filter_name = (wanted.metric or next(iter(parts[0].aggregation()))).partition(",")
    for part in parts:
        _check_metric(part, metric, path=path)
    return LoadedTask(
        path=path,
        name=parts[0].config.task if wanted.task.startswith(FILE_SCHEME) else wanted.task,
        metric=metric,
        filter=filter_name or None,
        higher_is_better=bool(parts[0].higher_is_better().get(metric, True)),
        questions_each=max(1, wanted.limit // len(parts)) if wanted.limit else None,
        loaded=loaded,
    )


def _spec(manager: Any, wanted: GateTask, *, path: str, place: Path) -> str | dict[str, Any]:  # noqa: ANN401
    """What lm-eval's task manager takes: a name that it has, or the content of a file."""
    if not wanted.task.startswith(FILE_SCHEME):
        if wanted.task not in manager.task_index:
            near = nearest(wanted.task, manager.all_tasks)
            raise recipe_error(
                f"{path}.task",
                f"lm-eval {lm_eval_version()} has no task {wanted.task!r}",
                hint=f"Did you mean {near}?" if near else "`lm-eval ls tasks` lists them.",
            )
        return wanted.task
    try:
        config = read_task_file(file_of(wanted.task)).config
    except TaskFileError as error:
        raise recipe_error(f"{path}.task", error.message, hint=error.hint) from error
    _check_registered(config, path=path)
    options = config["dataset_kwargs"] | {"cache_dir": str(place)}
    return config | {"dataset_kwargs": options}


def _check_registered(config: dict[str, Any], *, path: str) -> None:
    """lm-eval would look for an unknown metric on a hub, and run it."""
    known = import_module("lm_eval.api.registry").METRIC_REGISTRY
    import_module("lm_eval.api.metrics")  # registers them
    for entry in config["metric_list"]:
        if entry["metric"] not in known:
            near = nearest(entry["metric"], known)
            raise recipe_error(
                f"{path}.task",
                f"lm-eval has no metric {entry['metric']!r}",
                hint=f"Did you mean {near}?" if near else "Take acc or exact_match.",
            )


def _few_shot(part: Any, wanted: GateTask) -> int:  # noqa: ANN401 - a task of lm-eval
    said = wanted.few_shot if wanted.few_shot is not None else part.config.num_fewshot
    return int(said or 0)


def _check_metric(part: Any, metric: str, *, path: str) -> None:  # noqa: ANN401 - a task of lm-eval
    registered = import_module("lm_eval.api.registry")
    averages = [registered.get_aggregation(name) for name in _AVERAGED]
    known = part.aggregation()
    fitting = [name for name, aggregation in known.items() if aggregation in averages]
    if metric in fitting or (metric in known and _is_own(known[metric])):
        return
    what = "gives no score for each question" if metric in known else "is no metric of it"
    raise recipe_error(
        f"{path}.metric",
        f"{metric} {what}: task {part.config.task}",
        hint=f"Its metrics are {', '.join(fitting)}." if fitting else "Take another task.",
    )


def _is_own(aggregation: Any) -> bool:  # noqa: ANN401 - any callable
    """Whether a task brings it itself: then only its values tell whether they can be averaged."""
    return not getattr(aggregation, "__module__", "").startswith("lm_eval.api")


def _sandbox_templates() -> None:
    """Let templates reach nothing but their question; lm-eval itself renders them in a plain environment."""
    utils: Any = import_module("lm_eval.utils")
    plain = utils.env
    if isinstance(plain, SandboxedEnvironment):
        return
    utils.env = SandboxedEnvironment(
        loader=plain.loader, undefined=plain.undefined, keep_trailing_newline=plain.keep_trailing_newline
    )
    utils.env.filters.update(plain.filters)
