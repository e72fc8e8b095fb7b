"""The bandwidth that a plain copy reaches on this GPU in this run: the ceiling of what only moves bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.worker.kernels.timing import time_graph

if TYPE_CHECKING:
    from collections.abc import Callable

COMPILED_COPY = "compiled elementwise kernel"
_BYTES = 2**30
_LAUNCHES, _REPETITIONS = 6, 15


def copy_bandwidths(*, compiled: bool) -> dict[str, float]:
    """Way to copy → GB/s, bytes read plus bytes written, over 1 GiB each way.

    The driver's own copy is not the fastest way: kernels that read and write each element once reach more,
    and the ceiling is the best of them.
    """
    source = torch.randint(-(2**62), 2**62, (_BYTES // 8,), device="cuda")
    target = torch.empty_like(source)
    return {
        name: 2 * _BYTES / time_graph([call], launches=_LAUNCHES, repetitions=_REPETITIONS).median / 1e3
        for name, call in _copies(source, target, compiled=compiled).items()
    }


def _copies(source: Any, target: Any, *, compiled: bool) -> dict[str, Callable[[], Any]]:  # noqa: ANN401 - tensors
    found: dict[str, Callable[[], Any]] = {
        "cudaMemcpyAsync (torch copy_)": lambda: target.copy_(source),
        "torch elementwise kernel": lambda: torch.bitwise_not(source, out=target),
    }
    if compiled:
        inverted = torch.compile(_inverted, dynamic=False)
        found[COMPILED_COPY] = lambda: inverted(source)
    return found


def _inverted(values: Any) -> Any:  # noqa: ANN401 - tensors
    return ~values
