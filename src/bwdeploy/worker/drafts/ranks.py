"""The place of a process among those that train one draft: one process for each GPU, or a single one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import distributed
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Device


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


def this_rank(device: Device) -> Ranks:
    """This process's place in the group that it belongs to."""
    return Ranks(distributed.get_rank(), distributed.get_world_size(), device)
