"""An lm-eval task in a file of the user: read as data, so that nothing of it can run.

Only keys that are text, numbers or templates are taken; the ways to run Python (`!function`, `class`,
a metric or a decoding loop from a hub, …) are refused by name. Paths of data files start at the task's own
directory, files that it includes are merged, and every file that the scores depend on is known.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import RecipeError
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = frozenset({
    "dataset_kwargs", "dataset_name", "dataset_path", "description", "doc_to_choice", "doc_to_target",
    "doc_to_text", "fewshot_config", "fewshot_delimiter", "fewshot_split", "filter_list", "gen_prefix",
    "generation_kwargs", "metadata", "metric_list", "num_fewshot", "output_type", "repeats", "tag",
    "target_delimiter", "task", "task_alias", "test_split", "training_split", "validation_split",
})  # fmt: skip
_RUNS_CODE = frozenset({
    "class", "custom_dataset", "doc_to_audio", "doc_to_image", "process_docs", "process_results",
    "unsafe_code", "use_prompt",
})  # fmt: skip
_OF_GROUPS = frozenset({"group", "task_list", "aggregate_metric_list"})
_NEEDED = ("task", "dataset_path", "output_type", "doc_to_text", "doc_to_target")
READERS = frozenset({"json", "csv", "parquet", "text"})
"""Of local data. The others of the library `datasets` read pickles, or whole directories."""
_TASK_NAME = re.compile(r"[A-Za-z0-9][\w.:-]*", re.ASCII)
_DATA_KEYS = frozenset({"data_files", "field", "delimiter", "column_names", "sep"})
_OUTPUT_TYPES = ("multiple_choice", "generate_until", "loglikelihood")
"""Those that give a score for each question."""
_GENERATION = frozenset(
    {"do_sample", "max_gen_toks", "min_p", "repetition_penalty", "temperature", "top_k", "top_p", "until"}
)
"""Of all that transformers' generate takes: `custom_generate` would fetch code."""
_MOST_INCLUDES = 20


class TaskFileError(Exception):
    """A task that cannot be used."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TaskFile(NamedTuple):
    """One task."""

    config: dict[str, Any]
    """As lm-eval takes it: nothing included, data files absolute."""
    data_files: tuple[Path, ...]
    """What its questions lie in."""
    task_files: tuple[Path, ...]
    """The file itself and those that it includes."""

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.config["task"])


def read_task_file(path: Path) -> TaskFile:
    """Read a task and look at all that can be known without lm-eval.

    Raises:
        TaskFileError: it cannot be read, would run code, or lacks something.
    """
    seen: list[Path] = []
    config = _merged(path, seen)
    _check_keys(config)
    config["metric_list"] = list(_metrics(config))
    _check_generation(config)
    _check_filters(config)
    data_files = _place_data(config)
    return TaskFile(config, tuple(dict.fromkeys(data_files)), tuple(seen))


def _merged(path: Path, seen: list[Path]) -> dict[str, Any]:
    """The keys of a file over those of the files that it includes; later ones win."""
    if path in seen or len(seen) >= _MOST_INCLUDES:
        raise TaskFileError(f"{path} is included more than once", "remove the include")
    seen.append(path)
    try:
        data = read_document(path).data
    except RecipeError as error:
        first = error.findings[0]
        tagged = "YAML tag" in first.message
        hint = "a task file runs no code: write templates" if tagged else "write one lm-eval task as YAML"
        place = f"{first.file}:{first.line}" if first.line else str(path)
        raise TaskFileError(f"{place}: {first.message}", hint) from error
    if not isinstance(data, dict):
        raise TaskFileError(f"{path} holds no mapping", "write one lm-eval task as YAML")
    included = data.pop("include", [])
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        merged |= _merged(path.parent / str(name), seen)
    return merged | _with_places(data, path.parent)


def _with_places(data: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The data files of one file start at its own directory, also where another includes it."""
    options = data.get("dataset_kwargs")
    if not isinstance(options, dict) or "data_files" not in options:
        return data
    return data | {"dataset_kwargs": options | {"data_files": _absolute(options["data_files"], directory)}}


def _absolute(value: object, directory: Path) -> object:
    if isinstance(value, str):
        return value if "://" in value else str(directory / value)
    if isinstance(value, list):
        return [_absolute(one, directory) for one in value]
    if isinstance(value, dict):
        return {split: _absolute(one, directory) for split, one in value.items()}
    return value


def _check_keys(config: dict[str, Any]) -> None:
    for key in config:
        if key in _RUNS_CODE:
            raise TaskFileError(
                f"{key} runs Python code, which a task file may not", "write the task with templates only"
            )
        if key in _OF_GROUPS:
            raise TaskFileError(f"{key} makes it a group of tasks", "name each task in gate.tasks")
        if key not in _KEYS:
            near = nearest(str(key), _KEYS)
            raise TaskFileError(
                f"lm-eval's tasks have no key {key!r}", f"did you mean {near}" if near else "remove it"
            )
    missing = [key for key in _NEEDED if config.get(key) in (None, "")]
    if not config.get("test_split") and not config.get("validation_split"):
        missing.append("test_split")
    if missing:
        raise TaskFileError(f"it lacks {', '.join(missing)}", "see lm-eval's guide to task files")
    if not isinstance(config["task"], str) or not _TASK_NAME.fullmatch(config["task"]):
        raise TaskFileError(f"{config['task']!r} is no name for a task", "use letters, digits and _")


def _metrics(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    metrics = config.get("metric_list")
    if not isinstance(metrics, list) or not metrics:
        raise TaskFileError("it lacks metric_list", "add metric_list: [{metric: acc, aggregation: mean}]")
    for entry in metrics:
        if not isinstance(entry, dict) or not isinstance(entry.get("metric"), str):
            raise TaskFileError("metric_list has an entry without metric", "write {metric: acc}")
        if entry.get("hf_evaluate"):
            raise TaskFileError(
                f"metric {entry['metric']} would run code from a hub", "use a metric of lm-eval itself"
            )
        yield entry


def _check_generation(config: dict[str, Any]) -> None:
    if config["output_type"] not in _OUTPUT_TYPES:
        raise TaskFileError(
            f"output_type {config['output_type']!r} gives no score for each question",
            f"use {', '.join(_OUTPUT_TYPES)}",
        )
    options = config.get("generation_kwargs") or {}
    unknown = sorted(set(options) - _GENERATION) if isinstance(options, dict) else [f"{options!r:.60}"]
    if unknown:
        raise TaskFileError(
            f"generation_kwargs {', '.join(unknown)} is not taken",
            f"known are {', '.join(sorted(_GENERATION))}",
        )


def _check_filters(config: dict[str, Any]) -> None:
    pipelines = config.get("filter_list") or []
    if not isinstance(pipelines, list) or not all(map(_is_pipeline, pipelines)):
        raise TaskFileError(
            "filter_list has a filter that is none of lm-eval's own",
            "write {name: …, filter: [{function: take_first}]}",
        )


def _is_pipeline(pipeline: object) -> bool:
    steps = pipeline.get("filter") if isinstance(pipeline, dict) else None
    return isinstance(steps, list) and all(
        isinstance(step, dict) and isinstance(step.get("function"), str) and step["function"] != "custom"
        for step in steps
    )


def _place_data(config: dict[str, Any]) -> list[Path]:
    """The local files of the task's data.

    Raises:
        TaskFileError: there are none where there should be, or they are of a kind that is not read.
    """
    reader, options = str(config["dataset_path"]), config.get("dataset_kwargs") or {}
    if not isinstance(options, dict) or not options.keys() <= _DATA_KEYS:
        unknown = ", ".join(sorted(set(options) - _DATA_KEYS)) if isinstance(options, dict) else options
        raise TaskFileError(
            f"dataset_kwargs {unknown} is not taken", f"known are {', '.join(sorted(_DATA_KEYS))}"
        )
    if reader not in READERS:
        raise TaskFileError(
            f"dataset_path {reader!r} is not read from a task file",
            f"use {', '.join(sorted(READERS))}, with files in dataset_kwargs.data_files",
        )
    files = [Path(one) for one in _texts(options.get("data_files"))]
    if not files:
        raise TaskFileError("it names no data", "add dataset_kwargs: {data_files: {test: questions.jsonl}}")
    for file in files:
        if not file.is_file():
            raise TaskFileError(f"{file} is no file", "paths of data_files start at the task's own directory")
    return files


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
