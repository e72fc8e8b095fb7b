"""Captures a step of a model as a CUDA graph; what cannot be captured is found before it is tried."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Step = Callable[[], Tensor]
    """Computes the logits of one token, [vocabulary]; a captured one always into the same memory."""
    Capture = Callable[[Step], Step]
    """Makes a replay of a step; running the step leaves traces in the buffers that it writes."""


class CudaCapture:
    """Captures steps on one stream; their memory is shared, because one graph runs after another."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, step: Step) -> Step:
        """Run the step twice and capture it.

        Raises:
            RuntimeError: it waits for the device, for example to decide what to compute.
        """
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            step()  # libraries set themselves up in their first call, and may wait then
            with _waiting_is_an_error():
                step()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            logits = step()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    """A capture that fails on a wait leaves the allocator in a bad state: find it before."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
