"""A plan as text and as JSON (`plan --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.memory import memory_json, memory_lines, quantization_json, quantization_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bwdeploy.pipeline.plan import Plan
    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.planner.memory.quantization import QuantizationPlan

_UNKNOWN = "not computed: the model's shape is not known; it is once its config.json is on this machine"


def plan_json(
    plan: Plan, memory: MemoryPlan | None, quantization: QuantizationPlan | None = None
) -> dict[str, Any]:
    """The contract of `plan --json`; `memory` is null while the model's shape is not known."""
    return {
        "name": plan.recipe.name,
        "stages": [
            {
                "name": planned.name,
                "key": planned.key,
                "status": planned.status,
                "why": planned.why,
                "command": planned.step.command,
            }
            for planned in plan.stages
        ],
        "memory": memory_json(memory) if memory else None,
        "quantization_memory": quantization_json(quantization) if quantization else None,
    }


def plan_text(
    plan: Plan, memory: MemoryPlan | None, quantization: QuantizationPlan | None = None, *, why: bool
) -> str:
    """The plan for a person; with `why`, the reason of each status."""
    lines = [f"{plan.recipe.name}"]
    for planned in plan.stages:
        lines.append(f"  {planned.name:<11} {planned.status:<7} {planned.key[:12]}  {planned.step.command}")
        if why:
            lines.append(f"  {'':<11} {planned.why}")
    lines += _titled("memory", memory_lines(memory) if memory else (_UNKNOWN,))
    if quantization is not None:
        lines += _titled("quantizing", quantization_lines(quantization))
    return "\n".join(lines)


def _titled(title: str, lines: Iterable[str]) -> list[str]:
    """Lines in a column, the title before the first."""
    return [f"  {title if number == 0 else '':<11} {line}" for number, line in enumerate(lines)]
