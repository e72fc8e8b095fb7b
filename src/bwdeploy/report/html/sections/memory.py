"""What the plan expects on each GPU that serves: estimates, nothing measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Badge, Note, Picture, Points, Section, Table
from bwdeploy.report.html.figures.memory import draw_memory
from bwdeploy.report.html.numbers import ABSENT, gib, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.planner.memory.gpu import GpuMemory
    from bwdeploy.planner.memory.quantization import QuantizationPlan
    from bwdeploy.report.html.blocks import Block, Cell
    from bwdeploy.report.html.data import ReportData

_ROW_INCHES, _FRAME_INCHES = 0.3, 0.9
_MOST_DIFFERENT = 4
"""Pipeline stages that are drawn apart; more of them differ in a layer or so."""


def memory_section(data: ReportData) -> Section | None:
    """A waterfall and a table for each different GPU."""
    needs = data.needs
    if needs is None or needs.memory is None:
        return None
    blocks = [
        *_gpus(needs.memory),
        *_room(needs.memory),
        *([Points(needs.memory.notes)] if needs.memory.notes else []),
        *([_modes(needs.quantization)] if needs.quantization else []),
    ]
    return Section(
        "memory",
        "Memory",
        tuple(blocks),
        lead="Planned from the model's shape, the formats and the layout; upper bounds where they say so.",
    )


def _gpus(memory: MemoryPlan) -> Iterator[Block]:
    alike = memory.distinct_gpus
    for number, (gpu, count) in enumerate(alike[:_MOST_DIFFERENT], start=1):
        which = f"each of {count} GPUs" if count > 1 else "one GPU"
        parts = list(gpu_parts(gpu))
        yield Picture(
            f"memory-{number}",
            f"Memory of {which}",
            _words(gpu),
            partial(draw_memory, parts=parts, capacity_bytes=gpu.capacity_bytes),
            height=_ROW_INCHES * (len(parts) + 1) + _FRAME_INCHES,
        )
        yield Table(
            f"Weights of {which} by kind of module",
            ("Module", "Format", "Size", "Share of weights"),
            tuple(
                (row.role, row.format, gib(row.bytes), percent(row.bytes / max(1, gpu.weights_bytes)))
                for row in sorted(gpu.by_role, key=lambda row: -row.bytes)
            ),
            texts=frozenset({0, 1}),
        )
    if len(alike) > _MOST_DIFFERENT:
        yield Note(f"{len(alike) - _MOST_DIFFERENT} more GPUs differ a little from these.")


def gpu_parts(gpu: GpuMemory) -> Iterator[tuple[str, int]]:
    """What lies on a GPU in the order in which it comes, without what is not there."""
    cache = gpu.kv_bytes if gpu.kv_pool_bytes is None else gpu.kv_pool_bytes
    parts = (
        ("weights", gpu.weights_bytes),
        ("draft", gpu.draft_bytes),
        ("activations", gpu.activation_bytes),
        ("NCCL", gpu.communication_bytes),
        ("runtime", gpu.runtime_bytes),
        ("KV cache", cache),
        ("CUDA graphs", gpu.cuda_graph_bytes),
    )
    yield from ((name, size) for name, size in parts if size)


def _words(gpu: GpuMemory) -> str:
    parts = ", ".join(f"{name} {gib(size)}" for name, size in gpu_parts(gpu))
    of = f" of {gib(gpu.capacity_bytes)}" if gpu.capacity_bytes is not None else ""
    return f"{parts}; together {gib(gpu.total_bytes)}{of}."


def _room(memory: MemoryPlan) -> Iterator[Block]:
    if memory.max_tokens_in_kv is not None:
        requests = f", or {memory.max_requests:,} of the longest requests" if memory.max_requests else ""
        yield Note(
            f"The KV cache ({memory.kv_format}, {memory.kv_bytes_per_token:,} bytes for each token) has room"
            f" for {memory.max_tokens_in_kv:,} tokens{requests}.",
            "plain" if memory.fits else "bad",
        )


def _modes(quantization: QuantizationPlan) -> Table:
    fits: dict[bool | None, Cell] = {
        True: Badge("fits", "good"),
        False: Badge("does not fit", "bad"),
        None: ABSENT,
    }
    return Table(
        f"Ways to run the step {quantization.method}, estimated",
        ("Way", "GPUs", "On each GPU", "Host memory", "Fits"),
        tuple(
            (
                mode.name,
                str(mode.gpus),
                gib(mode.gpu_bytes),
                gib(mode.host_bytes) if mode.host_bytes else ABSENT,
                fits[mode.fits],
            )
            for mode in quantization.modes
        ),
        texts=frozenset({0, 4}),
        folded=True,
    )
