"""The worker process itself: its streams, its threads, its peak memory, its environment.

Nothing here knows what a job does. Linux only where it says so; elsewhere the call does nothing.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.pipeline import jobs

_KIB = 1024


def take_stdout() -> Callable[[jobs.Progress], None]:
    """Keep stdout for progress alone: return its writer and point file descriptor 1 at stderr."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def report(progress: jobs.Progress) -> None:
        private.write(progress.model_dump_json() + "\n")
        private.flush()

    return report


def write_atomically(path: Path, text: str) -> None:
    """Write a file that other processes see whole or not at all."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def prepare_libraries(*, online: bool) -> None:
    """Set the environment that torch, transformers and huggingface_hub read when they are imported."""
    defaults = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "warning",
        "OMP_NUM_THREADS": str(usable_cpus()),
    }
    if not online:
        defaults |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def hide_scikit_learn() -> None:
    """Keep transformers from importing scikit-learn, which it does wherever that is installed.

    No job of ours uses it but lm-eval; for all others it is 1.6 s of start for nothing.
    """
    if "sklearn" not in sys.modules:
        sys.modules["sklearn"] = None  # type: ignore[assignment]  # Python's own word for "not there"


def show_scikit_learn() -> None:
    """Let it be imported again."""
    if sys.modules.get("sklearn", ...) is None:
        del sys.modules["sklearn"]


def usable_cpus() -> int:
    """CPUs this process may really use: its affinity, cut to the cgroup's quota (containers, Slurm).

    torch counts the machine's CPUs instead and is many times slower when a quota then throttles it.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus  # no cgroup v2: the affinity is all there is to know
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))


def return_free_memory() -> None:
    """Give the allocator's free pages back to the system, where the C library can (glibc).

    Measured on the quickstart model: without it, freed activations stay resident between batches and the
    peak of a quantization is 1.5 to 1.6 GB instead of 1.35 GB; it costs about 2 % of the time.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    VmHWM, not getrusage: Linux starts ru_maxrss of a new program at the size of the process it came from.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource  # noqa: PLC0415 - not on every platform; Linux never gets here

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIB
