"""Did the fused kernels that a recipe names really run? Answered from the model's own counters.

The engine counts the runs of each op of its kernel pack and tells them once a second: on a GPU they are
launches, counted on the GPU itself; without one the reference of the op answers. An ensemble in front of an
engine exports no such counters.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from bwdeploy.serving.metrics import read_samples
from bwdeploy.serving.smoke_report import SmokeCheck, judged, skipped

if TYPE_CHECKING:
    from bwdeploy.serving.client import Endpoint
    from bwdeploy.serving.metrics import Samples

_FAMILY: Final = "bwdeploy_kernel_calls_total"
_DEADLINE_S: Final = 5.0
_POLL_S: Final = 0.05


class Runs(NamedTuple):
    """What one op has done since the model was loaded."""

    times: int
    on_gpu: bool
    """Else its reference ran."""


def check_kernels(endpoint: Endpoint, ops: tuple[str, ...], *, deadline_s: float = _DEADLINE_S) -> SmokeCheck:
    """Passed when each op has run since the model was loaded; waits for the count to arrive.

    Raises:
        ToolError: the metrics port does not answer.
    """
    if not ops:
        return skipped("kernels", "the recipe names none")
    if not endpoint.vocabulary.ours:
        return skipped("kernels", "an ensemble does not count what runs behind it")
    runs = wait_for_runs(endpoint, ops, timeout_s=deadline_s)
    problems = [problem for op in ops if (problem := _problem(op, runs.get(op)))]
    return judged("kernels", problems, "; ".join(f"{op} {_words(runs[op])}" for op in ops if op in runs))


def _problem(op: str, run: Runs | None) -> str | None:
    if run is None:
        return f"{op} is not counted: the model was built without it"
    if not run.times:
        return f"{op} never ran: the engine's log says how many of the model's modules call it"
    return None


def _words(run: Runs) -> str:
    return f"ran {run.times} times" if run.on_gpu else f"called {run.times} times, answered by its reference"


def wait_for_runs(endpoint: Endpoint, ops: tuple[str, ...], *, timeout_s: float) -> dict[str, Runs]:
    """`kernel_runs` once each of `ops` that is counted at all has run, or when `timeout_s` is over.

    Raises:
        ToolError: the metrics port does not answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        runs = kernel_runs(read_samples(endpoint.metrics), model=endpoint.model)
        if all(runs[op].times for op in ops if op in runs) or time.monotonic() > deadline:
            return runs
        time.sleep(_POLL_S)


def kernel_runs(samples: Samples, *, model: str) -> dict[str, Runs]:
    """Op → its runs; an op that the model does not run with is missing."""
    labelled = [(dict(labels), value) for (name, labels), value in samples.items() if name == _FAMILY]
    return {
        labels["op"]: Runs(round(value), labels.get("device") == "cuda")
        for labels, value in labelled
        if labels.get("model") == model
    }
