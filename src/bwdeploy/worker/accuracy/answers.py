"""A model's answers to the questions of a task, as a score for each question.

lm-eval asks and compares. Nothing is averaged here: the verdict needs the scores of both models in pairs.
"""

from __future__ import annotations

import gc
import logging
import math
import random
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError

from bwdeploy.errors import ToolError
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import RecipeError
    from bwdeploy.worker.accuracy.tasks import LoadedTask

_LOG = logging.getLogger(__name__)
_SEED = 1234
"""The one that lm-eval takes by itself, so that few-shot examples are those of published figures."""
_BATCH = {"cuda": 64, "cpu": 4}
"""Questions at once, to begin with. lm-eval's `auto` tries the longest input that the model could take, which
fits no GPU where that is 131,072 tokens; and both models shall see the same batches."""
_SMALLER = 4


class Scores(NamedTuple):
    """What a model reached."""

    asked: tuple[str, ...]
    """Which questions, as digests of question and prompt."""
    values: tuple[float, ...]


def answer(task: LoadedTask, model: Any, tokenizer: Any) -> Scores:  # noqa: ANN401 - transformers objects
    """Ask all questions; greedy unless the task says otherwise, in the same order for every model.

    Raises:
        RecipeError: a template does not fit a question, or the metric gives no score from 0 to 1.
        ToolError: a question does not fit the GPU's memory.
    """
    batch_size = _BATCH[model.device.type]
    while (samples := _asked_unless_too_large(task, model, tokenizer, batch_size)) is None:
        if batch_size == 1:
            raise ToolError(
                f"A question of {task.name} does not fit the GPU's memory.",
                hint="Lower few_shot, take a task with shorter questions, or a larger GPU.",
            )
        batch_size = max(1, batch_size // _SMALLER)
        _LOG.warning("%s does not fit the GPU's memory: now %d questions at once", task.name, batch_size)
    rows = [row for name in sorted(samples) for row in _filtered(samples[name], task)]
    return Scores(
        asked=tuple(f"{row['doc_hash']}{row['prompt_hash']}" for row in rows),
        values=tuple(_score(row, task) for row in rows),
    )


def _asked_unless_too_large(
    task: LoadedTask,
    model: Any,  # noqa: ANN401 - transformers objects
    tokenizer: Any,  # noqa: ANN401
    batch_size: int,
) -> dict[str, list[dict[str, Any]]] | None:
    """lm-eval's rows for each part of the task; None when a batch did not fit the GPU's memory."""
    torch, numpy = import_module("torch"), import_module("numpy")
    adapter = import_module("lm_eval.models.huggingface").HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size
    )
    random.seed(_SEED)
    numpy.random.seed(_SEED)
    torch.manual_seed(_SEED)
    for part in task.loaded["tasks"].values():
        part.set_fewshot_seed(seed=_SEED)
    try:
        return _asked(task, adapter)
    except torch.OutOfMemoryError:
        pass  # and not here: the exception holds the tensors of the batch
    gc.collect()
    torch.cuda.empty_cache()
    return None


def _asked(task: LoadedTask, adapter: Any) -> dict[str, list[dict[str, Any]]]:  # noqa: ANN401
    """lm-eval's rows for each part of the task."""
    try:
        results: dict[str, Any] = import_module("lm_eval.evaluator").evaluate(
            lm=adapter, task_dict=task.loaded, limit=task.questions_each, bootstrap_iters=0, log_samples=True
        )
    except TemplateError as error:
        raise recipe_error(
            f"{task.path}.task",
            f"a template of {task.name} does not fit a question: {error}",
            hint="Templates may name the columns of the data, nothing else.",
        ) from error
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    return samples


def _filtered(rows: list[dict[str, Any]], task: LoadedTask) -> Iterator[dict[str, Any]]:
    """The rows of one filter in the order of the questions."""
    names = list(dict.fromkeys(row["filter"] for row in rows))
    chosen = task.filter or names[0]
    if chosen not in names:
        raise recipe_error(
            f"{task.path}.metric", f"{task.name} has no filter {chosen!r}", hint=f"It has {', '.join(names)}."
        )
    yield from sorted((row for row in rows if row["filter"] == chosen), key=lambda row: int(row["doc_id"]))


def _score(row: dict[str, Any], task: LoadedTask) -> float:
    """The figure of one question.

    Raises:
        RecipeError: it is none between 0 and 1.
    """
    try:
        value = float(row[task.metric])
    except (KeyError, TypeError, ValueError):
        raise _no_score(task, row.get(task.metric)) from None
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise _no_score(task, value)
    return value


def _no_score(task: LoadedTask, value: object) -> RecipeError:
    return recipe_error(
        f"{task.path}.metric",
        f"{task.metric} of {task.name} gives {value!r:.80} for a question, which is no score from 0 to 1",
        hint="Take another metric, for example acc or exact_match.",
    )
