"""The memory of a deployment and of its quantization step, as a table and as JSON.

GPUs that are alike are shown once. What is a bound, an assumption or a choice is said beside the figure.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.planner.memory.gpu import GpuMemory
    from bwdeploy.planner.memory.quantization import Mode, QuantizationPlan

_GIB = 2**30
_GB = 10**9
_LABEL = 14
_TIE = "\N{NO-BREAK SPACE}"
_ROLES_INDENT = _LABEL + 13
_ROLES_WIDTH = 68
"""What is left of 110 columns beside the label and the figure."""


def memory_json(memory: MemoryPlan) -> dict[str, Any]:
    """The key `memory` of `plan --json`."""
    return {
        "per_gpu": [_gpu_json(gpu) for gpu in memory.per_gpu],
        "kv_format": memory.kv_format,
        "kv_bytes_per_token": memory.kv_bytes_per_token,
        "kv_bytes_per_token_per_gpu": memory.kv_bytes_per_token_per_gpu,
        "kv_bytes_per_token_all_gpus": memory.kv_bytes_per_token_all_gpus,
        "max_tokens_in_kv": memory.max_tokens_in_kv,
        "max_requests": memory.max_requests,
        "checkpoint_bytes": memory.checkpoint_bytes,
        "checkpoint_estimated_bytes": memory.checkpoint.estimated_bytes,
        "checkpoint_header_bytes": memory.checkpoint.header_bytes,
        "cuda_graphs": memory.cuda_graphs,
        "pipeline": _pipeline_json(memory),
        "notes": list(memory.notes),
    }


def quantization_json(quantization: QuantizationPlan) -> dict[str, Any]:
    """The key `quantization_memory` of `plan --json`."""
    chosen = quantization.chosen
    return {
        "method": quantization.method,
        "modes": [mode._asdict() for mode in quantization.modes],
        "chosen": chosen.name if chosen else None,
        "capacity_bytes": quantization.capacity_bytes,
        "gpus_needed": quantization.gpus_needed,
    }


def memory_lines(memory: MemoryPlan) -> Iterator[str]:
    """The table of each different GPU, what fits, and the notes."""
    for gpu, count in memory.distinct_gpus:
        yield _gpu_heading(gpu, count)
        yield from _gpu_table(gpu, memory)
    yield from _room(memory)
    yield f"checkpoint {memory.checkpoint_bytes / _GB:,.2f} GB"
    yield from (f"note: {note}" for note in memory.notes)


def quantization_lines(quantization: QuantizationPlan) -> Iterator[str]:
    """Each way to run the quantization step, the simplest that fits marked."""
    chosen = quantization.chosen
    yield f"{quantization.method}, estimated:"
    for mode in quantization.modes:
        yield f"  {mode.name:<34} {_mode_text(mode)}{'  <- simplest that fits' if mode == chosen else ''}"
    if chosen is None and quantization.capacity_bytes is not None:
        needed = quantization.gpus_needed
        yield f"  fits on none of these; {needed or 'no number of'} such GPUs would hold it"


def _gpu_json(gpu: GpuMemory) -> dict[str, Any]:
    by_role = [row._asdict() for row in gpu.by_role]
    totals = {"total_bytes": gpu.total_bytes, "required_bytes": gpu.required_bytes}
    return gpu._asdict() | totals | {"by_role": by_role}


def _pipeline_json(memory: MemoryPlan) -> dict[str, Any] | None:
    pipeline = memory.pipeline
    if pipeline is None:
        return None
    return {
        "components": [component._asdict() for component in pipeline.components],
        "default_bytes": pipeline.default_bytes,
        "low_vram_bytes": pipeline.low_vram_bytes,
    }


def _gpu_heading(gpu: GpuMemory, count: int) -> str:
    each = f"{count} GPUs, each" if count > 1 else "1 GPU,"
    of = f" of {_gib(gpu.capacity_bytes)}" if gpu.capacity_bytes is not None else ""
    return f"{each} {_gib(gpu.total_bytes)}{of}"


def _gpu_table(gpu: GpuMemory, memory: MemoryPlan) -> Iterator[str]:
    first, *rest = (line.replace(_TIE, " ") for line in textwrap.wrap(_roles(gpu), _ROLES_WIDTH))
    yield _row("weights", gpu.weights_bytes, first)
    yield from (" " * _ROLES_INDENT + line for line in rest)
    if gpu.draft_bytes:
        yield _row("draft", gpu.draft_bytes, "")
    if gpu.kv_bytes:
        full = f"a full batch needs {_gib(gpu.kv_bytes)}"
        cache = gpu.kv_bytes if gpu.kv_pool_bytes is None else gpu.kv_pool_bytes
        yield _row("KV cache", cache, f"{memory.kv_format}; {full}")
    yield _row("activations", gpu.activation_bytes, "bound of the widest moment of a full step")
    if gpu.cuda_graph_bytes:
        yield _row("CUDA graphs", gpu.cuda_graph_bytes, f"at most; {_counted(memory.cuda_graphs, 'graph')}")
    if gpu.communication_bytes:
        yield _row("NCCL", gpu.communication_bytes, "")
    if gpu.runtime_bytes:
        yield _row("runtime", gpu.runtime_bytes, "CUDA context, libraries, allocator")


def _roles(gpu: GpuMemory) -> str:
    """The largest module classes first."""
    rows = sorted(gpu.by_role, key=lambda row: -row.bytes)
    return ", ".join(f"{row.role}{_TIE}{row.format}{_TIE}{row.bytes / _GIB:.2f}" for row in rows)


def _room(memory: MemoryPlan) -> Iterator[str]:
    if memory.pipeline is not None:
        yield f"with one engine loaded at a time: {_gib(memory.pipeline.low_vram_bytes)}"
        return
    copies = f"{memory.kv_bytes_per_token:,} bytes of KV cache for each token"
    if memory.kv_bytes_per_token_all_gpus != memory.kv_bytes_per_token:
        copies += f" ({memory.kv_bytes_per_token_all_gpus:,} over all GPUs)"
    yield copies
    if memory.max_tokens_in_kv is not None:
        requests = (
            f", or {memory.max_requests:,} requests of the longest" if memory.max_requests is not None else ""
        )
        yield f"room for {memory.max_tokens_in_kv:,} tokens{requests}"


def _mode_text(mode: Mode) -> str:
    each = "each " if mode.gpus > 1 else ""
    host = f", {_gib(mode.host_bytes)} of host memory" if mode.host_bytes else ""
    verdict = "" if mode.fits is None else ("  fits" if mode.fits else "  does not fit")
    return f"{each}{_gib(mode.gpu_bytes)}{host}{verdict}"


def _row(label: str, size: int, text: str) -> str:
    return f"  {label:<{_LABEL}} {size / _GIB:>9.2f}  {text}".rstrip()


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _gib(size: int) -> str:
    return f"{size / _GIB:,.2f} GiB"
