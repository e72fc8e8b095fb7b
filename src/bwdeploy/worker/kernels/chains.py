"""Four ops in a row, as a decoder layer launches them, with and without programmatic dependent launch.

Each op waits for the one before it; what PDL can hide is the launch and the preamble of the next. A chain is
counted to the norm that it begins with.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.kernels.goals import CHAIN
from bwdeploy.worker.kernels.own_ops import make_buffers, own_call
from bwdeploy.worker.kernels.points import CHAIN_ROWS, CHAINS, Size
from bwdeploy.worker.kernels.timing import time_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.worker.kernels.own_ops import Buffers
    from bwdeploy.worker.kernels.points import Family
    from bwdeploy.worker.kernels.timing import Timing

_NORM, _MLP = "add_rmsnorm_quant_fp8", "silu_mul_quant_fp8"
_VARIANT = "fp8 static"
_CHAINS_IN_GRAPH = 25


class ChainTiming(NamedTuple):
    """One chain, with and without PDL; microseconds of all four ops together."""

    op: str
    variant: str
    rows: int
    width: int
    with_pdl: Timing
    without_pdl: Timing


def time_chains(ops: tuple[str, ...]) -> Iterator[ChainTiming]:
    """Every chain that the loaded ops can form."""
    if _NORM in ops:
        for hidden, rows in product(dict.fromkeys(hidden for hidden, _ in CHAINS), CHAIN_ROWS):
            norms = _buffers("norm", rows, hidden)
            chain = [(_NORM, buffers) for buffers in norms + norms]
            yield _timed(f"{CHAIN}: norms", rows, hidden, chain)
    if {_NORM, _MLP} <= set(ops):
        for (hidden, intermediate), rows in product(CHAINS, CHAIN_ROWS):
            pairs = zip(_buffers("norm", rows, hidden), _buffers("mlp", rows, intermediate), strict=True)
            chain = [link for norm, mlp in pairs for link in ((_NORM, norm), (_MLP, mlp))]
            yield _timed(f"{CHAIN}: norm, silu (I {intermediate}), norm, silu", rows, hidden, chain)


def _buffers(family: Family, rows: int, width: int) -> tuple[Buffers, ...]:
    return make_buffers(Size(family=family, rows=rows, width=width, variants=()), sets=2)


def _timed(variant: str, rows: int, width: int, chain: list[tuple[str, Buffers]]) -> ChainTiming:
    timings = []
    for pdl in (True, False):
        calls = [own_call(link, _VARIANT, buffers, pdl=pdl) for link, buffers in chain]
        timings.append(time_graph([_in_a_row(calls)], launches=_CHAINS_IN_GRAPH))
    return ChainTiming(_NORM, variant, rows, width, *timings)


def _in_a_row(calls: list[Callable[[], Any]]) -> Callable[[], list[Any]]:
    return lambda: [call() for call in calls]
