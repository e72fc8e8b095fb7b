"""All-reduce, residual add, RMSNorm and quantize in one launch, against the same in several.

    python -m benchmarks.allreduce_kernels PACK [--hidden 7168] [--commit NAME] [ROWS ...]

One process for each of 2, 4 or 8 GPUs. Every point is a CUDA graph of many launches over rotating buffers,
replayed; the figure is the median time of one launch on the slowest rank. The baselines run in the same
processes: NCCL's all-reduce followed by the norm and FP8 quantize that torch.compile makes (also beside
NVFP4, which torch.compile makes slower), each of the two alone, and PyTorch's symmetric-memory one-shot
all-reduce alone. `--commit`: of a tree that is no git checkout.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import socket
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

# Before torch: a program that uses NVLink multicast can put a shared host's GPUs out of service.
os.environ |= {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}

import torch
import torch.distributed as dist
import torch.distributed._symmetric_memory as symmetric_memory

from benchmarks.results import machine, write_result
from bwdeploy.kernels.goals import NCCL, ONE_SHOT, WITHOUT_PDL
from bwdeploy_kernels.manifest import read_manifest
from bwdeploy_kernels.pack import load_pack
from bwdeploy_kernels.peers import open_peers

if TYPE_CHECKING:
    from collections.abc import Callable

OP = "allreduce_add_rmsnorm_quant"
ROWS = (1, 4, 16, 64, 128, 256, 1024)
EPS = 1e-6
REPLAYS = 25
WARM_UP = 3
BYTES_TO_ROTATE = 150_000_000
"""More than the L2 cache holds."""

Call = Any


class Timing(NamedTuple):
    """Microseconds of one launch."""

    median: float
    p10: float
    p90: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pack", type=Path)
    parser.add_argument("--hidden", type=int, default=7168)
    parser.add_argument("--commit", default="")
    parser.add_argument("rows", type=int, nargs="*", default=ROWS)
    arguments = parser.parse_args()
    before = _clocks()
    results = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(
        _rank, args=(arguments, _free_port(), results), nprocs=torch.cuda.device_count()
    )
    table = results.get()
    write_result(
        "allreduce_kernels",
        {
            **_described(arguments),
            "clocks_before": before,
            "clocks_after": _clocks(),
            "alone": {rows: _alone(times) for rows, times in table.items()},
            "rows": [row for rows, times in table.items() for row in _figures(rows, arguments.hidden, times)],
        },
        command="python -m benchmarks.allreduce_kernels PACK",
        commit=arguments.commit,
    )


def _described(arguments: argparse.Namespace) -> dict[str, Any]:
    major, minor = torch.cuda.get_device_capability()
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return {
        "sm": f"sm_{major}{minor}a",
        "gpu": f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}",
        "driver": driver,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "nccl": ".".join(str(part) for part in torch.cuda.nccl.version()),
        "commit": arguments.commit or machine()["commit"],
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "sources": {op.name: op.source_digest for op in read_manifest(arguments.pack).ops if op.name == OP},
        "left_out": {},
    }


def _figures(rows: int, hidden: int, times: dict[str, Timing]) -> list[dict[str, Any]]:
    """One row of the table for each way to quantize."""
    return [
        {
            "op": OP,
            "variant": f"{name}, {torch.cuda.device_count()} GPUs",
            "rows": rows,
            "width": hidden,
            "microseconds": times[name].median,
            "p10": times[name].p10,
            "p90": times[name].p90,
            "baselines": {
                NCCL: times["nccl, norm"].median,
                ONE_SHOT: times["one shot"].median,
                WITHOUT_PDL: times[f"{name} without pdl"].median,
            },
            "copy_share": None,
        }
        for name in ("fp8 static", "fp8 dynamic", "nvfp4 swizzled")
    ]


def _alone(times: dict[str, Timing]) -> dict[str, float]:
    return {"NCCL all-reduce": times["nccl"].median, "compiled norm+quantize": times["norm"].median}


def _rank(rank: int, arguments: argparse.Namespace, port: int, results: Any) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    world_size = torch.cuda.device_count()
    dist.init_process_group(
        "nccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size, device_id=device
    )
    load_pack(arguments.pack, device="cuda", ops=(OP,))
    table = {}
    with open_peers(hidden=arguments.hidden) as group:
        for rows in arguments.rows:
            table[rows] = _slowest(_times(rows, arguments.hidden, group.handle))
            if rank == 0:
                print(rows, {name: timing.median for name, timing in table[rows].items()}, flush=True)
    if rank == 0:
        results.put(table)
    dist.destroy_process_group()


def _times(rows: int, hidden: int, peers: int) -> dict[str, Timing]:
    """Every way at one number of rows."""
    sets = min(16, max(3, BYTES_TO_ROTATE // (7 * rows * hidden) + 1))
    buffers = [Buffers(rows, hidden) for _ in range(sets)]
    ways = _fused(peers) | _baselines(rows, hidden)
    return {name: _time(way, buffers, 96 if rows <= 256 else 24) for name, way in ways.items()}


def _fused(peers: int) -> dict[str, Callable[[Buffers], Call]]:
    ops = torch.ops.bwdeploy

    def fp8(of: Buffers, scale: torch.Tensor | None, *, pdl: bool) -> Call:
        return ops.allreduce_add_rmsnorm_quant_fp8(of.x, of.residual, of.weight, scale, EPS, peers, pdl=pdl)

    def nvfp4(of: Buffers, *, pdl: bool) -> Call:
        return ops.allreduce_add_rmsnorm_quant_nvfp4(
            of.x, of.residual, of.weight, of.scale, EPS, peers, pdl=pdl
        )

    return {
        "fp8 static": lambda of: fp8(of, of.scale, pdl=True),
        "fp8 dynamic": lambda of: fp8(of, None, pdl=True),
        "nvfp4 swizzled": lambda of: nvfp4(of, pdl=True),
        "fp8 static without pdl": lambda of: fp8(of, of.scale, pdl=False),
        "fp8 dynamic without pdl": lambda of: fp8(of, None, pdl=False),
        "nvfp4 swizzled without pdl": lambda of: nvfp4(of, pdl=False),
    }


def _baselines(rows: int, hidden: int) -> dict[str, Callable[[Buffers], Call]]:
    compiled = torch.compile(norm_quantize, dynamic=False)
    one_shot = _symmetric(rows, hidden)

    def norm(of: Buffers) -> Call:
        return compiled(of.x, of.residual, of.weight, of.scale)

    def nccl(of: Buffers) -> None:
        dist.all_reduce(of.x)

    def nccl_then_norm(of: Buffers) -> Call:
        nccl(of)
        return norm(of)

    return {"nccl, norm": nccl_then_norm, "nccl": nccl, "norm": norm, "one shot": lambda _: one_shot()}


class Buffers:
    """What one launch reads."""

    def __init__(self, rows: int, hidden: int) -> None:
        self.filled = torch.randn(rows, hidden, device="cuda").bfloat16()
        self.x = self.filled.clone()
        self.residual = torch.randn(rows, hidden, device="cuda").bfloat16()
        self.weight = torch.rand(hidden, device="cuda").add(0.5).bfloat16()
        self.scale = torch.tensor([0.02], device="cuda")


def norm_quantize(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The unfused rest in torch: E4M3 codes and the new residual."""
    total = x + residual
    wide = total.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS) * weight.float()
    return (normed / scale).clamp(-448, 448).to(torch.float8_e4m3fn), total


def _symmetric(rows: int, hidden: int) -> Callable[[], torch.Tensor]:
    name = dist.group.WORLD.group_name
    buffer = symmetric_memory.empty(
        rows, hidden, dtype=torch.bfloat16, device=torch.device("cuda", dist.get_rank())
    )
    symmetric_memory.rendezvous(buffer, name)
    buffer.normal_()
    return lambda: torch.ops.symm_mem.one_shot_all_reduce(buffer, "sum", name)


def _time(way: Callable[[Buffers], Call], buffers: list[Buffers], launches: int) -> Timing:
    """On this rank."""
    graph = _captured(way, buffers, launches)
    samples = []
    for _ in range(WARM_UP + REPLAYS):
        for of in buffers:
            of.x.copy_(of.filled)  # an all-reduce in place doubles it each time
        dist.barrier()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        graph.replay()
        after.record()
        after.synchronize()
        samples.append(before.elapsed_time(after) * 1e3 / launches)
    ordered = sorted(samples[WARM_UP:])
    tenth = len(ordered) // 10
    points = statistics.median(ordered), ordered[tenth], ordered[-1 - tenth]
    return Timing(*(round(point, 3) for point in points))


def _captured(way: Callable[[Buffers], Call], buffers: list[Buffers], launches: int) -> torch.cuda.CUDAGraph:
    for of in buffers[:WARM_UP]:
        way(of)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    kept: list[Call] = []
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for number in range(launches):
            kept = [*kept[1 - len(buffers) :], way(buffers[number % len(buffers)])]
    return graph


def _slowest(measured: dict[str, Timing]) -> dict[str, Timing]:
    of_all: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, measured)
    return {name: max(of_rank[name] for of_rank in of_all) for name in measured}  # by median


def _clocks() -> list[str]:
    """SM and memory clock, power and temperature of each GPU, as the driver says now."""
    query = "--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu"
    done = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
