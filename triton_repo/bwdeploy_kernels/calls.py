"""How often each op ran: counted by the kernels on the GPU, by us on the CPU.

The device counts because Python does not see a replayed CUDA graph.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_ON_CPU: Counter[str] = Counter()


def counted(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, counting its calls for the op of that name."""

    def count(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the schema types them
        _ON_CPU[op] += 1
        return function(*arguments, **options)

    return count


def cpu_calls(op: str) -> int:
    """Calls of the op's reference since it was registered."""
    return _ON_CPU[op]


def cuda_calls(op: str, gpu: int) -> int:
    """Launches of the op's kernels on the CUDA device `gpu` since the library was loaded.

    Reads device memory on a stream of its own and waits for no other.
    """
    counter = getattr(torch.ops.bwdeploy, f"{op}_calls")
    return int(counter(gpu))
