"""Peer groups: the ranks of a process group that write into each other's GPU memory over NVLink.

`open_peers` and `PeerGroup.close` are collective: all ranks of the process group call them, in one order with
their other collectives. Whatever can fail is agreed on, so either all ranks get a group or all raise the same
PeerError. The memory is allocated with cudaMalloc by the op's library and shared through CUDA IPC; NVLink
multicast is never used. On the CPU a group is its process group alone, for the references.
"""

from __future__ import annotations

import itertools
import socket
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
import torch.distributed as dist

from bwdeploy_kernels.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORLD_SIZES = (2, 4, 8)
ROWS_MULTIPLE = 128
WIDTH_MULTIPLE, MAX_WIDTH = 8, 16384

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ADDRESS_BYTES = 64
_CPU_HANDLES = itertools.count(-1, -1)
"""The library counts upwards from 1."""

Result = TypeVar("Result")


class PeerError(PackError):
    """These ranks cannot form a peer group; each of them raises the same message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFacts:
    """What a rank tells the others about itself before any memory is allocated."""

    host: str
    boot: str
    """Of the running kernel: the containers of a machine share it, two machines never do."""
    model: str
    """Of the GPU: all ranks launch the same grid."""
    gpu: str
    """UUID, or "cpu"."""
    rows: int
    hidden: int


class PeerGroup:
    """An open group. `handle` is what the ops take as `peers`."""

    def __init__(self, group: dist.ProcessGroup | None, handle: int, device: torch.device) -> None:
        self.group, self.handle, self.device = group, handle, device
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        _OPEN[handle] = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back; a second time does nothing. Graphs with the op must not be replayed after.

        Raises:
            PeerError: a rank could not unmap or free it.
        """
        if _OPEN.pop(self.handle, None) is None or self.device.type == "cpu":
            return
        _give_back(self.group, self.device, self.handle)


_OPEN: dict[int, PeerGroup] = {}


def open_peers(
    group: dist.ProcessGroup | None = None,
    *,
    hidden: int,
    rows: int = 1024,
    device: torch.device | None = None,
    share_gpus: bool = False,
) -> PeerGroup:
    """Open a peer group over all ranks of `group` (None: the default process group).

    `hidden`: columns of the widest call. `rows`: most rows of one launch, a multiple of 128; a longer call
    takes several. A rank allocates about 8 · rows · hidden bytes. `device`: this rank's (None: the current
    CUDA device). `share_gpus` lets ranks take turns on one GPU, which only tests want.

    Raises:
        PeerError: the process group is not up, or its ranks cannot reach each other.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise PeerError(
            "process group: got none, wanted one of 2, 4 or 8 ranks; call init_process_group first."
        )
    device = device or torch.device("cuda", torch.cuda.current_device())
    facts = _agreed(group, device, lambda: _facts(device, rows=rows, hidden=hidden))
    problems = misfits(facts, share_gpus=share_gpus)
    if problems:
        raise PeerError("these ranks cannot form a peer group:\n" + "\n".join(problems))
    handle = next(_CPU_HANDLES) if device.type == "cpu" else _connected(group, device, facts)
    return PeerGroup(group, handle, device)


def gather(peers: int, x: torch.Tensor) -> list[torch.Tensor]:
    """`x` of every rank of an open group, in the order of the ranks: what the references add up.

    Raises:
        PeerError: no open group has this handle.
    """
    if peers not in _OPEN:
        raise PeerError(f"peers: got {peers}, wanted the handle of an open group (open_peers(...).handle).")
    group = _OPEN[peers].group
    # As bytes, which every backend takes; and gloo gathers on the CPU alone.
    mine = x.contiguous().to("cpu" if dist.get_backend(group) == "gloo" else x.device).view(torch.uint8)
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, mine, group=group)
    return [part.view(x.dtype).to(x.device) for part in parts]


def misfits(facts: Sequence[RankFacts], *, share_gpus: bool = False) -> tuple[str, ...]:
    """Why ranks with these facts, in their order, cannot form a peer group."""
    found = []
    if len(facts) not in WORLD_SIZES:
        found.append(f"world size: got {len(facts)}, wanted 2, 4 or 8")
    if len({fact.boot for fact in facts}) > 1:
        found.append(f"hosts: got {[fact.host for fact in facts]} by rank, wanted all ranks on one machine")
    for name in ("model", "rows", "hidden"):
        values = [getattr(fact, name) for fact in facts]
        if len(set(values)) > 1:
            found.append(f"{name}: got {values} by rank, wanted the same on all")
    rows, hidden = facts[0].rows, facts[0].hidden
    if rows < ROWS_MULTIPLE or rows % ROWS_MULTIPLE:
        found.append(f"rows: got {rows}, wanted a multiple of {ROWS_MULTIPLE}")
    if not 0 < hidden <= MAX_WIDTH or hidden % WIDTH_MULTIPLE:
        found.append(f"hidden: got {hidden}, wanted a multiple of {WIDTH_MULTIPLE}, {MAX_WIDTH} at most")
    return (*found, *_gpu_misfits([fact.gpu for fact in facts], share_gpus=share_gpus))


def _gpu_misfits(gpus: list[str], *, share_gpus: bool) -> list[str]:
    if "cpu" in gpus:
        return [] if set(gpus) == {"cpu"} else [f"devices: got {gpus} by rank, wanted all CUDA or all cpu"]
    if share_gpus:
        return []
    return [
        f"GPU {gpu}: got ranks {ranks}, wanted one rank; call torch.cuda.set_device(local rank) first"
        for gpu in dict.fromkeys(gpus)
        if len(ranks := [rank for rank, other in enumerate(gpus) if other == gpu]) > 1
    ]


def _connected(group: dist.ProcessGroup | None, device: torch.device, facts: Sequence[RankFacts]) -> int:
    """Allocate on all ranks, map each other's memory, and see that every store arrives."""
    rank, world_size = dist.get_rank(group), len(facts)
    _agreed(group, device, lambda: _check_access(device, facts))
    address = torch.zeros(_ADDRESS_BYTES, dtype=torch.uint8)
    ops, mine = torch.ops.bwdeploy, facts[rank]

    def allocate() -> tuple[int, bytes]:
        handle = ops.allreduce_peers_allocate(device.index, rank, world_size, mine.rows, mine.hidden, address)
        return handle, bytes(address.tolist())

    allocated = _agreed(group, device, allocate)
    handle = allocated[rank][0]
    addresses = torch.tensor([list(of_rank) for _, of_rank in allocated], dtype=torch.uint8)
    try:
        _agreed(group, device, lambda: ops.allreduce_peers_connect(handle, addresses))
        _agreed(group, device, lambda: _check_greetings(handle, world_size))
    except PeerError:
        _give_back(group, device, handle)
        raise
    return int(handle)


def _give_back(group: dist.ProcessGroup | None, device: torch.device, handle: int) -> None:
    """Unmap, and free once nobody has it mapped any more."""
    _agreed(group, device, lambda: torch.ops.bwdeploy.allreduce_peers_disconnect(handle))
    _agreed(group, device, lambda: torch.ops.bwdeploy.allreduce_peers_free(handle))


def _check_access(device: torch.device, facts: Sequence[RankFacts]) -> None:
    """Raise if the driver knows of a GPU of the group that `device` cannot reach; hidden ones show later."""
    visible = {_uuid(index): index for index in range(torch.cuda.device_count())}
    for rank, fact in enumerate(facts):
        index = visible.get(fact.gpu, device.index)
        if index != device.index and not torch.cuda.can_device_access_peer(device.index, index):
            raise PeerError(
                f"GPU of rank {rank}: got no peer access from {device}, wanted NVLink; see nvidia-smi topo -m"
            )


def _check_greetings(handle: int, world_size: int) -> None:
    greeted = torch.ops.bwdeploy.allreduce_peers_greeted(handle)
    silent = [rank for rank in range(world_size) if not greeted >> rank & 1]
    if silent:
        raise PeerError(f"peer memory: got no store from ranks {silent}, wanted one from each")


def _facts(device: torch.device, *, rows: int, hidden: int) -> RankFacts:
    boot = _BOOT_ID.read_text(encoding="ascii").strip()
    model, gpu = "cpu", "cpu"
    if device.type != "cpu":
        model, gpu = torch.cuda.get_device_name(device), _uuid(device.index)
    return RankFacts(host=socket.gethostname(), boot=boot, model=model, gpu=gpu, rows=rows, hidden=hidden)


def _uuid(index: int) -> str:
    return str(torch.cuda.get_device_properties(index).uuid)


def _agreed(
    group: dist.ProcessGroup | None, device: torch.device, step: Callable[[], Result]
) -> list[Result]:
    """Do a step on every rank: the results in the order of the ranks, or PeerError on all if one failed."""
    problem: str | None = None
    result: Result | None = None
    try:
        result = step()
    except (PeerError, RuntimeError, OSError, AttributeError) as error:
        problem = str(error)
    outcomes: list[Any] = [None] * dist.get_world_size(group)
    # NCCL gathers objects through the current device
    with nullcontext() if device.type == "cpu" else torch.cuda.device(device):
        dist.all_gather_object(outcomes, (problem, result), group=group)
    problems = [f"rank {rank}: {said}" for rank, (said, _) in enumerate(outcomes) if said is not None]
    if problems:
        raise PeerError("these ranks cannot form a peer group:\n" + "\n".join(problems))
    return [result for _, result in outcomes]
