"""A plan as text and as JSON (`plan --json`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bwdeploy.pipeline.plan import Plan
    from bwdeploy.planner.memory import MemoryPlan

_GIB = 2**30


def plan_json(plan: Plan, memory: MemoryPlan | None) -> dict[str, Any]:
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
        "memory": _memory_json(memory) if memory else None,
    }


def plan_text(plan: Plan, memory: MemoryPlan | None, *, why: bool) -> str:
    """The plan for a person; with `why`, the reason of each status."""
    lines = [f"{plan.recipe.name}"]
    for planned in plan.stages:
        lines.append(f"  {planned.name:<11} {planned.status:<7} {planned.key[:12]}  {planned.step.command}")
        if why:
            lines.append(f"  {'':<11} {planned.why}")
    lines.append(f"  memory      {_memory_text(memory)}")
    return "\n".join(lines)


def _memory_json(memory: MemoryPlan) -> dict[str, Any]:
    return {
        "per_gpu": [asdict(gpu) | {"total_bytes": gpu.total_bytes} for gpu in memory.per_gpu],
        "kv_bytes_per_token": memory.kv_bytes_per_token,
        "max_tokens_in_kv": memory.max_tokens_in_kv,
    }


def _memory_text(memory: MemoryPlan | None) -> str:
    if memory is None:
        return "not computed: the model's shape is known once stage source has run, for Llama-like models"
    largest = max(memory.per_gpu, key=lambda gpu: gpu.total_bytes)
    text = (
        f"{len(memory.per_gpu)} GPU, each up to {largest.total_bytes / _GIB:.2f} GiB: weights"
        f" {largest.weights_bytes / _GIB:.2f}, KV cache {largest.kv_bytes / _GIB:.2f} (full batch),"
        f" activations {largest.activation_bytes / _GIB:.2f};"
        f" {memory.kv_bytes_per_token} bytes of KV per token"
    )
    if memory.max_tokens_in_kv is not None:
        text += f"; room for {memory.max_tokens_in_kv} tokens"
    return text
