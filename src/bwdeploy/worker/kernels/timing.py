"""Time launches as a served model runs them: captured in a CUDA graph, replayed, read by device events.

The clock of the host, Python and the launch queue stay out of the figures. Every launch of a graph uses the
next set of buffers, so that it does not find in the cache what the launch before it wrote there.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WARM_UP = 3


class Timing(NamedTuple):
    """Microseconds of one launch."""

    median: float
    p10: float
    p90: float


def time_graph(calls: Sequence[Callable[[], Any]], *, launches: int, repetitions: int = 25) -> Timing:
    """Time `launches` calls in a row, taking turns over `calls`, one for each set of buffers.

    What a call returns is kept until its turn comes again: outputs rotate as inputs do.
    """
    graph = _captured(calls, launches)
    for _ in range(_WARM_UP):
        graph.replay()
    torch.cuda.synchronize()
    return summary([_replay_us(graph) / launches for _ in range(repetitions)])


def summary(samples: Sequence[float]) -> Timing:
    """Median, 10th and 90th percentile (nearest rank) of at least one sample."""
    ordered = sorted(samples)
    tenth = len(ordered) // 10
    return Timing(statistics.median(ordered), ordered[tenth], ordered[-1 - tenth])


def _captured(calls: Sequence[Callable[[], Any]], launches: int) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for call in calls[:_WARM_UP]:  # compiles, loads modules, sets attributes of kernels
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    kept: deque[Any] = deque(maxlen=len(calls))
    with torch.cuda.graph(graph, stream=side):
        for number in range(launches):
            kept.append(calls[number % len(calls)]())
    return graph


def _replay_us(graph: torch.cuda.CUDAGraph) -> float:
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    graph.replay()
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after)) * 1e3
