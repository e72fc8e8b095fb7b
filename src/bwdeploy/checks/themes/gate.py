"""Rules on what the gate compares: tasks that can be asked, limits that can be kept, enough samples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.accuracy.installed_tasks import installed_lm_eval, task_names
from bwdeploy.accuracy.task_file import TaskFileError, read_task_file
from bwdeploy.accuracy.verdicts import LEAST_SAMPLES, judge_discordant
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.recipe.uris import FILE_SCHEME, file_of
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import GateTask

_ONE_NAME = re.compile(r"[\w.:/+-]+")
_FILE_SUFFIXES = (".yaml", ".yml")


def _task_name(subject: Subject) -> Iterator[Problem]:
    for path, task in _tasks(subject):
        name = task.task
        if name.startswith(FILE_SCHEME):
            continue
        if name.endswith(_FILE_SUFFIXES):
            yield Problem(path, f"{name!r} is no name of a task", f"write file://{name} for a task file")
        elif not _ONE_NAME.fullmatch(name):
            words = re.findall(_ONE_NAME, name)
            hint = "write one entry for each task" if len(words) > 1 else "write the name of one lm-eval task"
            yield Problem(path, f"{name!r} is not one name of a task", hint)


def _task_file(subject: Subject) -> Iterator[Problem]:
    for path, task in _tasks(subject):
        if not task.task.startswith(FILE_SCHEME):
            continue
        file = file_of(task.task)
        try:
            if not file.is_file():
                hint = "check the path; it starts at the recipe's directory"
                yield Problem(path, f"there is no task file {file}", hint)
                continue
            read_task_file(file)
        except (OSError, ValueError):  # a name that is too long or holds a NUL byte
            yield Problem(path, f"{task.task[:80]!r} is no name of a file", "check the path")
        except TaskFileError as error:
            yield Problem(path, error.message, error.hint)


def _task_twice(subject: Subject) -> Iterator[Problem]:
    seen: dict[tuple[object, ...], int] = {}
    for number, (path, task) in enumerate(_tasks(subject)):
        what = (task.task, task.metric, task.few_shot)
        if what in seen:
            message = f"{task.task} is asked already by gate.tasks[{seen[what]}]"
            yield Problem(path, message, "remove one of the two, or name another metric")
        seen.setdefault(what, number)


def _not_installed(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.gate.tasks and installed_lm_eval() is None:
        message = "lm-eval is not installed here, and the gate will ask tasks with it"
        hint = "install it where jobs run: pip install 'bwdeploy[accuracy]'; a build looks for it first"
        yield Problem(("gate", "tasks"), message, hint)


def _unknown_task(subject: Subject) -> Iterator[Problem]:
    named = [(path, task.task) for path, task in _tasks(subject) if _ONE_NAME.fullmatch(task.task)]
    package = installed_lm_eval() if named else None
    if package is None:
        return
    known = task_names(package)
    for path, name in named:
        if name not in known and not name.endswith(_FILE_SUFFIXES):
            near = nearest(name, known)
            hint = f"did you mean {near}" if near else "`lm-eval ls tasks` lists them"
            yield Problem(path, f"the installed lm-eval has no task {name!r}", hint)


def _nothing_to_compare(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if not _may_have_reference(subject) or recipe.gate.reference is not None:
        return
    for path in _sampled_limits(subject):
        message = "a prequantized source comes without the model that it was made from"
        hint = "name that model as gate.reference, or remove this limit"
        yield Problem(path, f"{message}, so there is nothing to compare it with", hint)


def _no_weight_error(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.gate.max_weight_error is not None and _may_have_reference(subject):
        message = "weights of a prequantized source are held against no others, so this limit holds nothing"
        hint = "remove it, and limit what gate.reference is compared on"
        yield Problem(("gate", "max_weight_error"), message, hint)


def _reference_unused(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.gate.reference is not None and not _may_have_reference(subject):
        message = "the checkpoint of this recipe is compared with model.source"
        yield Problem(("gate", "reference"), message, "remove it; it is for method prequantized")


def _may_have_reference(subject: Subject) -> bool:
    """Whether the checkpoint comes as it is, so that its original is not known."""
    recipe = subject.recipe
    return recipe.quantize.method == "prequantized" and recipe.engine.backend != "tensorrt"


def _few_samples(subject: Subject) -> Iterator[Problem]:
    evaluation = subject.recipe.gate.evaluation
    of_text = [path for path in _sampled_limits(subject) if path != ("gate", "tasks")]
    if of_text and evaluation.samples < LEAST_SAMPLES:
        message = f"{evaluation.samples} sequences give no interval, so every verdict on text is inconclusive"
        hint = f"set gate.evaluation.samples: {LEAST_SAMPLES} or more"
        yield Problem(("gate", "evaluation", "samples"), message, hint)


def _few_questions(subject: Subject) -> Iterator[Problem]:
    confidence = subject.recipe.gate.confidence
    for number, task in enumerate(subject.recipe.gate.tasks):
        if task.limit is None:
            continue
        judged = judge_discordant(0.0, samples=task.limit, margin=task.margin, confidence=confidence)
        needed = judged.samples_to_pass or LEAST_SAMPLES
        if task.limit < needed:
            message = (
                f"{task.limit} questions cannot tell a loss of {task.margin:g} points from chance:"
                f" a checkpoint that loses nothing would need about {needed}"
            )
            hint = f"set limit: {needed} or more, or a wider margin"
            yield Problem(("gate", "tasks", number, "limit"), message, hint)


def _exact_limit(subject: Subject) -> Iterator[Problem]:
    gate = subject.recipe.gate
    if not subject.recipe.quantize.quantizes:
        return
    exact = {
        "max_perplexity_increase": gate.max_perplexity_increase == 0,
        "min_top1_agreement": gate.min_top1_agreement == 1,
    }
    for key in (key for key, is_exact in exact.items() if is_exact):
        message = "a quantized checkpoint is never wholly the same, so this limit fails or stays inconclusive"
        hint = (
            "allow a little, for example 0.01"
            if key.startswith("max")
            else "allow a little, for example 0.95"
        )
        yield Problem(("gate", key), message, hint)


def _unused(subject: Subject) -> Iterator[Problem]:
    if subject.recipe.gate.inconclusive == "fail" and not any(_sampled_limits(subject)):
        message = "no limit of this gate rests on samples, so no verdict can be inconclusive"
        hint = "remove it, or set a limit such as gate.max_perplexity_increase"
        yield Problem(("gate", "inconclusive"), message, hint)


def _tasks(subject: Subject) -> Iterator[tuple[KeyPath, GateTask]]:
    for number, task in enumerate(subject.recipe.gate.tasks):
        yield ("gate", "tasks", number, "task"), task


def _sampled_limits(subject: Subject) -> Iterator[KeyPath]:
    """The limits that need both models on the same samples."""
    gate = subject.recipe.gate
    given = {
        "max_perplexity_increase": gate.max_perplexity_increase is not None,
        "max_kl_divergence": gate.max_kl_divergence is not None,
        "min_top1_agreement": gate.min_top1_agreement is not None,
        "tasks": bool(gate.tasks),
    }
    yield from (("gate", key) for key, is_given in given.items() if is_given)


_LM_EVAL = "https://github.com/EleutherAI/lm-evaluation-harness"

RULES = (
    Rule(
        id="gate-task-name",
        severity="error",
        summary="a task that is not one name",
        find=_task_name,
        source=_LM_EVAL,
        why="lm-eval's command line takes lists and patterns; a verdict is about one task.",
    ),
    Rule(
        id="gate-task-file",
        severity="error",
        summary="a task file that cannot be used",
        find=_task_file,
        source=_LM_EVAL,
        why="The gate would stop after the model was quantized; and code of a task file would run.",
    ),
    Rule(
        id="gate-task-twice",
        severity="warning",
        summary="a task that is asked twice",
        find=_task_twice,
        why="Both models would answer the same questions twice, for the same verdict.",
    ),
    Rule(
        id="gate-lm-eval-missing",
        severity="info",
        summary="tasks without lm-eval on this machine",
        find=_not_installed,
        source=_LM_EVAL,
        why="bwdeploy build refuses to start before anything has run.",
    ),
    Rule(
        id="gate-task-unknown",
        severity="error",
        summary="a task that the installed lm-eval does not have",
        find=_unknown_task,
        source=_LM_EVAL,
        why="The gate would stop after the model was quantized.",
    ),
    Rule(
        id="gate-nothing-to-compare",
        severity="error",
        summary="a comparison without a second model",
        find=_nothing_to_compare,
        why="The gate would fail every build, after all its work is done.",
    ),
    Rule(
        id="gate-no-weight-error",
        severity="error",
        summary="a limit on the rounding of weights that come rounded",
        find=_no_weight_error,
        why="The recipe looks stricter than it is.",
    ),
    Rule(
        id="gate-reference-unused",
        severity="error",
        summary="a second model where the first is there",
        find=_reference_unused,
        why="It would be fetched and never compared with; the recipe looks as if it were.",
    ),
    Rule(
        id="gate-few-samples",
        severity="warning",
        summary="too few sequences for a verdict",
        find=_few_samples,
        why="An interval from a handful of sequences means nothing; the limit would stop no checkpoint.",
    ),
    Rule(
        id="gate-few-questions",
        severity="warning",
        summary="too few questions for a verdict",
        find=_few_questions,
        why="Of 30 questions one is 3.3 points: a difference of 6 points on AIME is noise, not a loss.",
    ),
    Rule(
        id="gate-limit-exact",
        severity="warning",
        summary="a limit that only an unchanged model keeps",
        find=_exact_limit,
        why="Rounding changes every logit a little; the gate would stop every build or tell nothing.",
    ),
    Rule(
        id="gate-setting-unused",
        severity="warning",
        summary="a gate setting without effect",
        find=_unused,
        why="The recipe looks stricter than it is.",
    ),
)
