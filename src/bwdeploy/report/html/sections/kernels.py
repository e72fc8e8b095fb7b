"""The fused kernels of the build: what was measured of them, and what they take of a multiprocessor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Badge, Facts, Heading, Picture, Points, Section, Table
from bwdeploy.report.html.figures.kernels import draw_baselines
from bwdeploy.report.kernels import count_lines, figure_table, variants_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.report.html.blocks import Block, Cell, Tone
    from bwdeploy.report.html.data import KernelTable, ReportData


def kernels_section(data: ReportData) -> Section | None:
    """Each op of the pack; None for a build without kernels."""
    pack = data.kernels
    if pack is None:
        return None
    facts = Facts(
        (
            ("Compiler", f"nvcc {pack.nvcc}"),
            ("Torch", f"{pack.torch_stable} or newer"),
            ("NVIDIA driver", f"{pack.minimum_driver} or newer"),
        )
    )
    blocks = (facts, *(block for table in pack.tables for block in _op(table)))
    return Section(
        "kernels",
        "Fused kernels",
        blocks,
        lead="“Measured” holds for exactly the sources of this pack; “compiled” was built and never timed.",
    )


def _op(table: KernelTable) -> Iterator[Block]:
    yield Heading(f"{table.op} for {table.sm}: {table.status}")
    yield Points((table.summary,))
    yield from _picture(table)
    for variant in variants_of(table.figures):
        chosen = [figure for figure in table.figures if figure.variant == variant]
        headings, rows = figure_table(chosen)
        yield Table(
            f"{table.op}, {variant}: µs a launch",
            tuple(headings),
            tuple(_marked(row) for row in rows),
            texts=frozenset(),
            folded=True,
        )
        yield Points(tuple(count_lines(chosen)))
    if table.resources:
        yield Table(
            f"{table.op}: resources of each kernel on {table.sm}",
            ("Kernel", "Registers", "Shared memory, bytes", "Stack, bytes", "Spills, bytes"),
            tuple(
                (
                    one.name,
                    str(one.registers),
                    f"{one.shared_bytes:,}",
                    str(one.stack_bytes),
                    str(one.spill_bytes),
                )
                for one in table.resources
            ),
            folded=True,
        )


def _picture(table: KernelTable) -> Iterator[Picture]:
    """Of the first variant at its greatest width: the tables have all of them."""
    width = max((figure.width for figure in table.figures), default=0)
    variant = next(iter(variants_of(table.figures)), "")
    chosen = [figure for figure in table.figures if (figure.variant, figure.width) == (variant, width)]
    names = dict.fromkeys(name for figure in chosen for name in figure.baselines)
    factors = {
        name: [
            (figure.rows, figure.baselines[name] / figure.microseconds)
            for figure in chosen
            if name in figure.baselines
        ]
        for name in names
    }
    if factors:
        yield Picture(
            f"kernel-{table.op}-{table.sm}",
            f"{table.op}, {variant}, width {width:,}, on {table.sm}",
            "Time of each alternative over the time of the fused kernel, by rows of the input; above the"
            " dashed line the kernel is faster.",
            partial(draw_baselines, factors=factors),
            height=3.2,
        )


def _marked(row: list[str]) -> tuple[Cell, ...]:
    tones: dict[str, Tone] = {"wins": "good", "misses": "warn"}
    return (*row[:-1], Badge(row[-1], tones[row[-1]]) if row[-1] in tones else row[-1])
