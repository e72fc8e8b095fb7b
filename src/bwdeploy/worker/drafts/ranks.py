"""The processes that train one draft: one for each GPU, or a single one; and the place of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from bwdeploy.worker.process_group import run_in_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline.jobs import Device, Progress, ResultT
    from bwdeploy.pipeline.training_jobs import TargetJob


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


def run_in_ranks(
    request: TargetJob[ResultT],
    work: Callable[[Ranks], ResultT | None],
    as_rank: str,
    report: Callable[[Progress], None],
) -> ResultT:
    """Do `work` in this process, or `as_rank` ("module:function") in one for each GPU of the training.

    Either gives a result as rank 0, and None else.
    """
    if request.training.gpus > 1:
        told = run_in_group(request, as_rank, report, processes=request.training.gpus)
    else:
        told = work(Ranks(0, 1, request.device))
    return cast("ResultT", request.result_type.model_validate(told))
