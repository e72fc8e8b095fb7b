"""What is known of each GPU model: compute capability, memory the driver shows, links, runtimes."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from bwdeploy.facts.reader import read_data


class Gpu(NamedTuple):
    """One GPU model."""

    id: str
    name: str
    arch: str
    sm: int
    """Compute capability times ten, for example 100. Test it with sets, never with >=."""
    memory_visible_gib: float
    """What the driver reports; less than the figure on the box."""
    memory_bandwidth_tb_s: float
    dense_tflops: dict[str, float | None]
    nvlink_gb_s: float
    """Both directions together; 0 without NVLink."""
    nvlink_domain: int
    """GPUs that reach each other over NVLink."""
    gpus_per_node: int
    unified_memory: bool
    """Shared with the CPU; the driver's memory figure is not usable."""
    runtimes: tuple[str, ...]
    """pytorch, tensorrt, pytorch_beta, edge."""
    notes: str
    sources: tuple[str, ...]


@cache
def all_gpus() -> tuple[Gpu, ...]:
    """Every known GPU."""
    return tuple(
        Gpu(**{**row, "runtimes": tuple(row["runtimes"]), "sources": tuple(row["sources"])})
        for row in read_data("gpus.json")["gpus"]
    )


def find_gpu(name: str) -> Gpu | None:
    """The GPU that people call `name`, for example `B200`, `rtx-5090` or `RTX PRO 6000`."""
    return next((gpu for gpu in all_gpus() if _plain(gpu.id) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("geforce")
