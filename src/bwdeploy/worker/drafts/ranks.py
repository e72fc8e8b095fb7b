"""The place of a process among those that train one draft: one process for each GPU, or a single one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import cuda, distributed
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Device

_PATIENCE = timedelta(days=2)
"""For each other: one may generate, validate or export for long while the others wait."""


class Ranks(NamedTuple):
    """Rank 0 validates, writes and reports."""

    rank: int
    size: int
    device: Device
    """`cuda` is the current GPU, a different one in each process."""

    def wrap(self, module: Any) -> Any:  # noqa: ANN401 - a torch module
        """The module, exchanging its gradients where there are several processes."""
        if self.size == 1:
            return module
        devices = [self.rank] if self.device == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def wait_for_all(self) -> None:
        """Go on once every process is here."""
        if self.size > 1:
            distributed.barrier()


def join_ranks(rank: int, size: int, device: Device, meeting: Path) -> Ranks:
    """Meet the other processes over the file `meeting`, which none of them may have used before."""
    if device == "cuda":
        cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    return Ranks(rank, size, device)
