"""What is asked of the worker about kernel packs: build one, test one, measure one.

Apart from `jobs`, because no build without kernels reads it. A pack is a directory with a manifest, a shared
library for each op and the Python package that loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from bwdeploy.kernels.measured import Figure
from bwdeploy.pipeline.jobs import Device, JobData, JobRequest


class KernelBuildResult(JobData):
    """What a build of a pack did."""

    ops: tuple[str, ...]
    sms: tuple[str, ...]
    nvcc: str
    """Version of the compiler."""
    compiled: int
    """Object files made now."""
    cached: int
    """Object files that an earlier build had made."""
    seconds: float


class KernelBuild(JobRequest[KernelBuildResult]):
    """Compile ops for architectures and write a pack; needs nvcc and torch's headers, no GPU."""

    entry: ClassVar[str] = "bwdeploy.worker.kernels.build:run"
    result_type: ClassVar[type[JobData]] = KernelBuildResult
    ops: tuple[str, ...]
    """Names of op folders."""
    sms: tuple[str, ...]
    """For example `sm_100a`."""
    out: Path
    """Existing, empty directory."""
    tensorrt: bool = False
    """Add the TensorRT plugin library; needs TensorRT's headers, which $TENSORRT_ROOT names."""


class KernelCase(JobData):
    """One comparison of an op with its reference."""

    op: str
    case: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""


class KernelTestResult(JobData):
    """All comparisons of a pack."""

    device: str
    """Name of the GPU, or `cpu`."""
    cases: tuple[KernelCase, ...]
    calls: dict[str, int]
    """Launches by op, as the device counted them."""
    seconds: float


class KernelTest(JobRequest[KernelTestResult]):
    """Load a pack as a serving process does and compare every op with its reference."""

    entry: ClassVar[str] = "bwdeploy.worker.kernels.test:run"
    result_type: ClassVar[type[JobData]] = KernelTestResult
    pack: Path
    ops: tuple[str, ...]
    """Empty: all of the pack."""
    device: Device


class KernelFigure(Figure):
    """One measured point of one op."""

    op: str


class KernelBenchResult(JobData):
    """A run of the benchmark."""

    sm: str
    """The architecture that was measured, for example `sm_90a`."""
    machine: dict[str, str]
    """GPU, driver, clocks before and after, CUDA, torch, FlashInfer."""
    copy_gb_per_s: dict[str, float]
    """Way to copy → bytes read and written a second; the largest is the ceiling of `copy_share`."""
    source_digests: dict[str, str]
    """Op → digest of its sources, as the manifest of the pack says."""
    figures: tuple[KernelFigure, ...]
    left_out: dict[str, str]
    """What was not measured → why."""
    seconds: dict[str, float]
    """By phase."""


class KernelBench(JobRequest[KernelBenchResult]):
    """Measure the ops of a pack and their baselines on the GPU of this machine."""

    entry: ClassVar[str] = "bwdeploy.worker.kernels.bench:run"
    result_type: ClassVar[type[JobData]] = KernelBenchResult
    pack: Path
    ops: tuple[str, ...]
    """Empty: all of the pack."""
    quick: bool = False
    """Few points and repetitions, no baselines that need compiling: whether it runs, not how fast."""
    device: Device = "cuda"
