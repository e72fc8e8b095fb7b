"""What each measured point has to reach: faster than every baseline, and so much of the memory's bandwidth.

The limits are the project's own; a point that misses one is shown as missing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bwdeploy.kernels.measured import Figure

WITHOUT_PDL = "without PDL"
CHAIN = "chain of four"
"""How the variant of a chain begins: four ops, one behind the other."""
NCCL = "NCCL all-reduce, then compiled norm+quantize"
ONE_SHOT = "symmetric-memory one-shot all-reduce alone"
COPY = "copy bandwidth"

_COPY_SHARE = 0.92
_CHAIN_RATIO = 0.8
_LATENCY_ROWS = 16
"""Up to here an all-reduce waits for latency, not for bytes."""
_LATENCY_RATIO = 0.5
_THROUGHPUT_ROWS = 1024


class Verdict(NamedTuple):
    """One point against one thing it is compared with."""

    against: str
    value: float
    """Our time over the baseline's; for the copy bandwidth, the share of it."""
    limit: float
    met: bool


def verdicts(figure: Figure) -> tuple[Verdict, ...]:
    """What a point is judged by, in the order of its baselines; what has no limit is left out."""
    judged = (_against(figure, name, time) for name, time in figure.baselines.items())
    found = [verdict for verdict in judged if verdict is not None]
    if figure.copy_share is not None:
        share = figure.copy_share
        found.append(Verdict(COPY, share, _COPY_SHARE, share >= _COPY_SHARE))
    return tuple(found)


def _against(figure: Figure, baseline: str, microseconds: float) -> Verdict | None:
    ratio = figure.microseconds / microseconds
    if baseline == WITHOUT_PDL and figure.variant.startswith(CHAIN):
        return Verdict(baseline, ratio, _CHAIN_RATIO, ratio <= _CHAIN_RATIO)
    if baseline == NCCL:
        return _against_nccl(figure.rows, ratio)
    if baseline == WITHOUT_PDL or (baseline == ONE_SHOT and figure.rows > _LATENCY_ROWS):
        return None
    return Verdict(baseline, ratio, 1.0, ratio < 1)


def _against_nccl(rows: int, ratio: float) -> Verdict | None:
    if rows <= _LATENCY_ROWS:
        return Verdict(NCCL, ratio, _LATENCY_RATIO, ratio <= _LATENCY_RATIO)
    if rows < _THROUGHPUT_ROWS:
        return None
    return Verdict(NCCL, ratio, 1.0, ratio <= 1)
