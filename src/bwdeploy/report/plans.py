"""A plan as text and as JSON (`plan --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.model.describe import way_to_know
from bwdeploy.report.memory import memory_json, memory_lines, quantization_json, quantization_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.build import Needs
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.pipeline.plan import Plan


def plan_json(plan: Plan, needs: Needs) -> dict[str, Any]:
    """The contract of `plan --json`; `model` and `memory` are null while the model's shape is not known."""
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
        "model": _model_json(needs.model.shape) if needs.model.shape else None,
        "memory": memory_json(needs.memory) if needs.memory else None,
        "quantization_memory": quantization_json(needs.quantization) if needs.quantization else None,
    }


def plan_text(plan: Plan, needs: Needs, *, why: bool) -> str:
    """The plan for a person; with `why`, the reason of each status."""
    lines = [f"{plan.recipe.name}"]
    for planned in plan.stages:
        lines.append(f"  {planned.name:<11} {planned.status:<7} {planned.key[:12]}  {planned.step.command}")
        if why:
            lines.append(f"  {'':<11} {planned.why}")
    if needs.model.shape is not None:
        lines += _titled("model", _model_lines(needs.model.shape))
    lines += _titled("memory", memory_lines(needs.memory) if needs.memory else (_unknown(plan),))
    if needs.quantization is not None:
        lines += _titled("quantizing", quantization_lines(needs.quantization))
    return "\n".join(lines)


def _unknown(plan: Plan) -> str:
    return f"not computed: the model's shape is not known here; {way_to_know(plan.recipe.model.source)}"


def _titled(title: str, lines: Iterable[str]) -> list[str]:
    """Lines in a column, the title before the first."""
    return [f"  {title if number == 0 else '':<11} {line}" for number, line in enumerate(lines)]


def _model_json(shape: ModelShape) -> dict[str, Any]:
    return {
        "architecture": shape.architecture,
        "layers": len(shape.layers),
        "parameters": shape.parameters,
        "active_parameters": shape.active_parameters,
        "mtp_parameters": shape.mtp_parameters,
        "max_positions": shape.max_positions,
        "origin": shape.origin,
        "assumptions": list(shape.assumptions),
    }


def _model_lines(shape: ModelShape) -> Iterator[str]:
    """Parameters, and how many of them a token meets when that is fewer; where they were read."""
    words = [f"{shape.parameters:,} parameters"]
    if shape.active_parameters < shape.parameters:
        words.append(f"{shape.active_parameters:,} of them for each token")
    if shape.mtp_parameters:
        words.append(f"{shape.mtp_parameters:,} more for multi-token prediction")
    yield ", ".join(words)
    yield f"{shape.architecture}, {shape.origin}"
