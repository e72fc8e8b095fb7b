"""Rules on `expect`: a figure needs its version, date and traffic, and a deployment that can reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.schema import Expectation

_REGRESSIONS = (
    "https://github.com/NVIDIA/TensorRT-LLM/issues/9373 · https://github.com/NVIDIA/TensorRT-LLM/issues/5766"
    " · https://github.com/NVIDIA/TensorRT-LLM/issues/3486"
)
_RECORD = "https://github.com/NVIDIA/TensorRT-LLM/issues/3058"


def _undated(subject: Subject) -> Iterator[Problem]:
    for name, figure in subject.recipe.expect.items():
        missing = [key for key in ("software", "date") if not getattr(figure, key)]
        if missing:
            message = (
                f"{_figure(figure)} without {' and '.join(missing)} cannot be compared with another release"
            )
            examples = {"software": "software: TensorRT-LLM 1.2.1", "date": "date: 2026-04"}
            hint = f"add {', '.join(examples[key] for key in missing)} (those of the figure)"
            yield Problem(("expect", name), message, hint)


def _without_workload(subject: Subject) -> Iterator[Problem]:
    for name, figure in subject.recipe.expect.items():
        if figure.workload is None:
            message = f"{_figure(figure)} without the traffic that it belongs to"
            hint = (
                "add workload: {input_tokens: 1000, output_tokens: 2000, concurrency: 1} (those of "
                "the figure)"
            )
            yield Problem(("expect", name), message, hint)


def _beyond_batch(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    copies = recipe.layout.tp if recipe.layout.attention_dp else 1
    at_once = recipe.engine.max_batch_size * copies
    for name, figure in recipe.expect.items():
        concurrency = figure.workload.concurrency if figure.workload is not None else None
        if concurrency is not None and concurrency > at_once:
            message = f"{concurrency} requests at once, but this engine runs {at_once}; the rest wait"
            hint = f"set engine.max_batch_size: {-(-concurrency // copies)}"
            yield Problem(("expect", name, "workload", "concurrency"), message, hint)


def _beyond_sequence(subject: Subject) -> Iterator[Problem]:
    limit = subject.recipe.engine.max_seq_len
    for name, figure in subject.recipe.expect.items():
        tokens = figure.workload.input_tokens + figure.workload.output_tokens if figure.workload else 0
        if tokens > limit:
            message = f"requests of {tokens} tokens, but engine.max_seq_len is {limit}"
            yield Problem(("expect", name, "workload"), message, f"set engine.max_seq_len: {tokens} or more")


def _figure(figure: Expectation) -> str:
    return f"{figure.value:g} {figure.metric}"


RULES = (
    Rule(
        id="expect-undated",
        severity="warning",
        summary="a figure without software version or date",
        find=_undated,
        source=_REGRESSIONS,
        why="Speeds move in both directions between pre-releases; without a version nobody can tell a "
        "regression from a wrong setting.",
    ),
    Rule(
        id="expect-without-workload",
        severity="warning",
        summary="a figure without its traffic",
        find=_without_workload,
        source=_RECORD,
        why="Tokens per second depend on prompt length, answer length and concurrency more than on the GPU.",
    ),
    Rule(
        id="expect-concurrency-beyond-batch",
        severity="warning",
        summary="a figure with more requests than the engine runs",
        find=_beyond_batch,
        source=_RECORD,
        why="Requests queue, and the figure is missed by a factor and not by a percentage.",
    ),
    Rule(
        id="expect-beyond-sequence",
        severity="warning",
        summary="a figure with longer requests than the engine takes",
        find=_beyond_sequence,
        source=_RECORD,
        why="The engine refuses such requests, so that the figure cannot be measured on this deployment.",
    ),
)
