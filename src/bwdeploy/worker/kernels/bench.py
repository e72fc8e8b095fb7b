"""Entry of `KernelBench`: measure the ops of a pack and their baselines, all in one run on one GPU.

The order is: load the pack, fill the compilers' caches in parallel, the copy bandwidth, every size with all
that is measured at it, the chains. The op for several GPUs has a benchmark of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.kernels.goals import WITHOUT_PDL
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.kernel_jobs import KernelBench, KernelBenchResult, KernelFigure
from bwdeploy.worker.kernels import machine
from bwdeploy.worker.kernels.baselines import COMPILED, FLASHINFER, baselines_of, load_flashinfer
from bwdeploy.worker.kernels.chains import time_chains
from bwdeploy.worker.kernels.copying import copy_bandwidths
from bwdeploy.worker.kernels.loading import load_for_job
from bwdeploy.worker.kernels.own_ops import make_buffers, own_call
from bwdeploy.worker.kernels.points import BANDWIDTH_ROWS, VARIANTS, bytes_moved, sizes
from bwdeploy.worker.kernels.timing import time_graph
from bwdeploy.worker.kernels.warming import warm_baselines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.worker.kernels.own_ops import Buffers
    from bwdeploy.worker.kernels.points import Size
    from bwdeploy.worker.kernels.timing import Timing

_REPETITIONS, _QUICK_REPETITIONS = 25, 5
_QUICK = "left out of a quick run"


@dataclass(slots=True, kw_only=True)
class _Run:
    """What the parts of one run share."""

    repetitions: int
    ceiling_gb_per_s: float
    flashinfer: Any
    compiled: bool
    left_out: dict[str, str]
    timed: dict[tuple[str, int, int], float] = field(default_factory=dict)
    """Baseline, rows and width → median: what several variants are compared with is timed once."""


def run(request: KernelBench, report: Callable[[Progress], None]) -> KernelBenchResult:
    """Measure; see the module.

    Raises:
        HostError: no GPU, or the pack does not fit it.
    """
    clock = _Clock()
    sm = machine.require_gpu()
    pack = load_for_job(request.pack, device="cuda", ops=request.ops)
    described = machine.describe_machine()
    clock.phase("load")
    flashinfer, left_out = _prepared_baselines(pack.ops, report, quick=request.quick)
    clock.phase("compile the baselines")
    copies = copy_bandwidths(compiled=not request.quick)
    shared = _Run(
        repetitions=_QUICK_REPETITIONS if request.quick else _REPETITIONS,
        ceiling_gb_per_s=max(copies.values()),
        flashinfer=flashinfer,
        compiled=not request.quick,
        left_out=left_out,
    )
    described |= machine.state("before")
    with torch.no_grad():
        figures = tuple(_figures(pack.ops, shared, report, quick=request.quick))
    described |= machine.state("after")
    clock.phase("measure")
    return KernelBenchResult(
        sm=sm,
        machine=described,
        copy_gb_per_s={name: round(value, 1) for name, value in copies.items()},
        source_digests={op.name: op.source_digest for op in pack.manifest.ops},
        figures=figures,
        left_out=shared.left_out,
        seconds=clock.seconds,
    )


def _prepared_baselines(
    ops: tuple[str, ...], report: Callable[[Progress], None], *, quick: bool
) -> tuple[Any, dict[str, str]]:
    """FlashInfer's module or None, and what is left out of the run, with the reason."""
    left_out = {op: "measured by a benchmark of its own" for op in ops if op not in VARIANTS}
    if quick:
        return None, left_out | {FLASHINFER: _QUICK, COMPILED: _QUICK}
    report(Progress(phase="compile the baselines"))
    left_out |= warm_baselines(ops)
    if FLASHINFER in left_out:
        return None, left_out
    flashinfer, reason = load_flashinfer()
    return flashinfer, left_out | ({FLASHINFER: reason} if reason else {})


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def phase(self, name: str) -> None:
        """The phase `name` ends now."""
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 1), now


def _figures(
    ops: tuple[str, ...], shared: _Run, report: Callable[[Progress], None], *, quick: bool
) -> Iterator[KernelFigure]:
    every = sizes(ops, quick=quick)
    for done, size in enumerate(every):
        report(Progress(phase="measure", done=done, total=len(every), detail=f"{size.rows} x {size.width}"))
        yield from _at(size, shared)
        torch.cuda.empty_cache()
    for chain in time_chains(ops) if not quick else ():
        figure = _figure(chain.op, chain.variant, chain.rows, chain.width, chain.with_pdl)
        yield figure.model_copy(update={"baselines": {WITHOUT_PDL: round(chain.without_pdl.median, 3)}})


def _at(size: Size, shared: _Run) -> Iterator[KernelFigure]:
    buffers = make_buffers(size)
    own = {
        (op, variant, pdl): _time(size, buffers, partial(own_call, op, variant, pdl=pdl), shared)
        for op, variant in size.variants
        for pdl in (True, False)
    }  # before the baselines: FlashInfer's norm writes over its input
    for op, variant in size.variants:
        timing = own[op, variant, True]
        figure = _figure(op, variant, size.rows, size.width, timing)
        baselines = {WITHOUT_PDL: round(own[op, variant, False].median, 3)} | _baselines(
            size, variant, buffers, shared
        )
        share = None
        if size.rows == BANDWIDTH_ROWS:
            share = round(bytes_moved(size, variant) / timing.median / 1e3 / shared.ceiling_gb_per_s, 4)
        yield figure.model_copy(update={"baselines": baselines, "copy_share": share})


def _baselines(size: Size, variant: str, buffers: tuple[Buffers, ...], shared: _Run) -> dict[str, float]:
    found = {}
    for baseline in baselines_of(size, variant, flashinfer=shared.flashinfer) if shared.compiled else ():
        key = (baseline.what, size.rows, size.width)
        try:
            if key not in shared.timed:
                shared.timed[key] = round(_time(size, buffers, baseline.call, shared).median, 3)
        except Exception as error:  # noqa: BLE001 - a baseline that breaks is left out, and said to be
            shared.left_out[f"{baseline.name}, {variant}, {size.rows} x {size.width}"] = repr(error)[:300]
        else:
            found[baseline.name] = shared.timed[key]
    return found


def _time(
    size: Size, buffers: tuple[Buffers, ...], call: Callable[[Buffers], Callable[[], Any]], shared: _Run
) -> Timing:
    calls = [call(one) for one in buffers]
    return time_graph(calls, launches=size.launches, repetitions=shared.repetitions)


def _figure(op: str, variant: str, rows: int, width: int, timing: Timing) -> KernelFigure:
    median, p10, p90 = (round(value, 3) for value in timing)
    return KernelFigure(op=op, variant=variant, rows=rows, width=width, microseconds=median, p10=p10, p90=p90)
