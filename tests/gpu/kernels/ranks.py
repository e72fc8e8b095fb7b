"""Ranks to run checks on: a process for each, in one process group, with the pack loaded."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import socket
import time
import traceback
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from bwdeploy_kernels.pack import load_pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue
    from pathlib import Path

OP = "allreduce_add_rmsnorm_quant"
GROUP_TIMEOUT = dt.timedelta(seconds=60)
EXIT_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Rank:
    """What a check is told: which rank, on which GPU, the reference of each torch op, the op's counter."""

    number: int
    world_size: int
    device: torch.device
    reference: Callable[[str], Callable[..., Any]]
    calls: Callable[[], int]


class Ranks:
    """Processes that run one check after the other; after a check that failed they are started anew.

    Ranks that outnumber the GPUs take turns on them: the driver switches between processes every few
    milliseconds, also out of a kernel that waits. NCCL refuses such ranks, so gloo connects them.
    """

    def __init__(self, world_size: int, pack: Path) -> None:
        self.world_size, self.pack = world_size, pack
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []

    def run(self, check: Callable[[Rank], None], *, timeout_s: float = 60) -> None:
        """Call `check` on every rank; fail with what the ranks said, or when one is not done in time."""
        if not self._processes:
            self._start()
        for checks in self._checks:
            checks.put(check)
        problems = self._problems(until=time.monotonic() + timeout_s)
        if problems:
            self.stop()
        assert not problems, "\n".join(problems)

    def stop(self) -> None:
        """Kill them all before waiting for any: they hold on to each other's memory."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(EXIT_TIMEOUT_S)
        self._processes = []

    def _start(self) -> None:
        port = _free_port()
        self._said: Queue[tuple[int, str]] = self._context.Queue()
        self._checks: list[Queue[Callable[[Rank], None]]] = [
            self._context.Queue() for _ in range(self.world_size)
        ]
        for number, checks in enumerate(self._checks):
            start = Start(number=number, world_size=self.world_size, pack=self.pack, port=port)
            process = self._context.Process(target=_rank, args=(start, checks, self._said), daemon=True)
            process.start()
            self._processes.append(process)

    def _problems(self, *, until: float) -> list[str]:
        """Once a rank has failed, the others may wait for it forever: a moment later they are given up."""
        waiting = set(range(self.world_size))
        problems: list[str] = []
        while waiting:
            try:
                number, problem = self._said.get(timeout=max(0.1, until - time.monotonic()))
            except Empty:
                return [*problems, f"ranks {sorted(waiting)} were not done in time"]
            waiting.discard(number)
            if problem:
                problems.append(f"rank {number}: {problem}")
                until = min(until, time.monotonic() + 3)
        return problems


@dataclass(frozen=True, kw_only=True)
class Start:
    number: int
    world_size: int
    pack: Path
    port: int


def _rank(start: Start, checks: Queue[Callable[[Rank], None]], said: Queue[tuple[int, str]]) -> None:
    try:
        rank = _joined(start)
    except BaseException:
        said.put((start.number, traceback.format_exc()))
        raise
    while True:
        check = checks.get()
        try:
            check(rank)
            torch.cuda.synchronize()
        except BaseException:  # noqa: BLE001 - pytest's own failures too
            said.put((start.number, traceback.format_exc()))
        else:
            said.put((start.number, ""))


def _joined(start: Start) -> Rank:
    device = torch.device("cuda", start.number % torch.cuda.device_count())
    torch.cuda.set_device(device)
    shared = start.world_size > torch.cuda.device_count()
    dist.init_process_group(
        "gloo" if shared else "nccl",
        init_method=f"tcp://127.0.0.1:{start.port}",
        rank=start.number,
        world_size=start.world_size,
        timeout=GROUP_TIMEOUT,
        device_id=None if shared else device,
    )
    pack = load_pack(start.pack, device="cuda", ops=(OP,))
    return Rank(
        number=start.number,
        world_size=start.world_size,
        device=device,
        reference=pack.reference,
        calls=lambda: pack.calls()[OP],
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
