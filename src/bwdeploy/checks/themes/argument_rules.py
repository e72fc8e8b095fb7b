"""Rules on `engine.llm_args`: what `llm_args` found, as one rule for each kind of problem."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import Severity

_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_SAID_BETTER = {("kv_cache_config", "free_gpu_memory_fraction")}
"""Bounds that a rule of their own explains."""


def _llm_args(subject: Subject, *, kind: str) -> Iterator[Problem]:
    if subject.recipe.engine.backend != "pytorch":  # an engine reads none of them, see `build_flags`
        return
    for problem in subject.arg_problems:
        if problem.kind == kind and not (kind == "out-of-bounds" and problem.path in _SAID_BETTER):
            path = ("engine", "llm_args", *problem.path)
            yield Problem(path, problem.message, problem.hint, problem.severity)


def _argument_rule(kind: str, severity: Severity, summary: str, why: str) -> Rule:
    return Rule(
        id=f"llm-args-{kind}",
        severity=severity,
        summary=summary,
        find=partial(_llm_args, kind=kind),
        source=_ARGUMENT_SOURCES.get(kind, _LLM_ARGS),
        why=why,
    )


_ARGUMENT_SOURCES = {
    "unknown-key": f"https://github.com/NVIDIA/TensorRT-LLM/issues/2846 · "
    f"https://github.com/NVIDIA/TensorRT-LLM/issues/4811 · {_LLM_ARGS}",
    "renamed": f"https://github.com/NVIDIA/TensorRT-LLM/pull/18594 · "
    f"https://github.com/ai-dynamo/dynamo/pull/5383 · {_LLM_ARGS}",
    "engine-only": f"https://github.com/NVIDIA/TensorRT-LLM/pull/18671 · {_LLM_ARGS}",
}

RULES = (
    _argument_rule(
        "unknown-key",
        "error",
        "no such LLM API argument",
        "Every configuration class forbids unknown keys: the server stops at start, after the image was "
        "pulled.",
    ),
    _argument_rule(
        "renamed",
        "error",
        "an LLM API argument or value with another name",
        "Published recipes of older versions are refused, or one of their levers is ignored.",
    ),
    _argument_rule(
        "wrong-type",
        "error",
        "an LLM API argument of the wrong type",
        "TensorRT-LLM refuses the arguments when the server starts.",
    ),
    _argument_rule(
        "not-a-choice",
        "error",
        "an LLM API argument with a value that does not exist",
        "TensorRT-LLM refuses the arguments when the server starts.",
    ),
    _argument_rule(
        "unlisted-value",
        "warning",
        "an LLM API argument with a value that is not known",
        "The value is not checked at start and may fail, or be ignored, much later.",
    ),
    _argument_rule(
        "out-of-bounds",
        "error",
        "an LLM API argument out of bounds",
        "TensorRT-LLM refuses the arguments when the server starts.",
    ),
    _argument_rule(
        "missing-key",
        "error",
        "an LLM API argument that lacks a key",
        "TensorRT-LLM refuses the arguments when the server starts.",
    ),
    _argument_rule(
        "deprecated",
        "warning",
        "a deprecated LLM API argument",
        "A later version refuses the key, and the recipe does not survive the upgrade.",
    ),
    _argument_rule(
        "engine-only",
        "error",
        "an argument of the engine backend",
        "The PyTorch backend does not use it; what it was meant to change stays as it is.",
    ),
    _argument_rule(
        "said-elsewhere",
        "error",
        "an argument that the recipe says elsewhere",
        "Two places for one value drift apart, and plan and server would believe different ones.",
    ),
    _argument_rule(
        "refused",
        "error",
        "an argument that no recipe may give",
        "It would run code or change the environment of whoever serves somebody else's recipe.",
    ),
    _argument_rule(
        "names-host",
        "warning",
        "an argument that names a file or address of the server",
        "The server writes to, or talks to, a place that the recipe's author chose.",
    ),
)
