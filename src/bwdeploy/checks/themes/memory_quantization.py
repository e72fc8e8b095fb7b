"""The rule on the memory of the quantization step: whether it fits, and how it would have to be run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.planner.memory.quantization import plan_quantization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.planner.memory.quantization import Mode, QuantizationPlan

_GIB = 2**30


def _quantization_step(subject: Subject) -> Iterator[Problem]:
    gpu = subject.gpu
    plan = plan_quantization(subject.recipe, subject.model) if gpu is not None else None
    if gpu is None or plan is None or plan.capacity_bytes is None:
        return
    path, chosen = ("quantize",), plan.chosen
    largest = max((mode for mode in plan.modes if not mode.how), key=lambda mode: mode.gpus)
    if chosen is not None and not chosen.how:
        return
    message = (
        f"{plan.method} needs about {_gib(largest.gpu_bytes)} on {_each(largest)}, "
        f"more than the {_gib(plan.capacity_bytes)} of {gpu.id}"
    )
    if chosen is not None:
        yield Problem(path, message, _way_out(chosen, plan), "warning")
    elif plan.gpus_needed is not None:
        yield Problem(path, message, f"run it on {plan.gpus_needed} such GPUs", "warning")
    else:
        hint = "lower calibration.batch_size or seq_len, or quantize on a GPU with more memory"
        yield Problem(path, message, hint)


def _each(mode: Mode) -> str:
    return "one GPU" if mode.gpus == 1 else f"each of {mode.gpus} GPUs"


def _way_out(chosen: Mode, plan: QuantizationPlan) -> str:
    if not chosen.host_bytes:
        return f"{chosen.how} (about {_gib(chosen.gpu_bytes)} on {_each(chosen)})"
    elsewhere = f", or run it on {plan.gpus_needed} such GPUs" if plan.gpus_needed else ""
    return f"{chosen.how} (about {_gib(chosen.host_bytes)} of host memory){elsewhere}"


def _gib(size: int) -> str:
    return f"{size / _GIB:,.1f} GiB"


RULES = (
    Rule(
        id="memory-quantization-step",
        severity="error",
        summary="the quantization step does not fit the GPUs",
        find=_quantization_step,
        source="https://github.com/NVIDIA/Model-Optimizer/issues/177"
        " · https://github.com/NVIDIA/Model-Optimizer/issues/329",
        why="Calibration and training hold the unquantized model: they run out of memory long after the "
        "download, although the quantized model would fit.",
    ),
)
