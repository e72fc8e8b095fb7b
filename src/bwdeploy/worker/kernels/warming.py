"""Compile all baselines at the same time, in processes of their own, before anything is timed."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from bwdeploy.tools.python_children import Child, run_children
from bwdeploy.worker.kernels.baselines import FLASHINFER
from bwdeploy.worker.kernels.points import VARIANTS
from bwdeploy.worker.process import usable_cpus

_MODULE = "bwdeploy.worker.kernels.warm"
_MOST_CHILDREN = 12
"""Each holds a CUDA context of half a gigabyte."""
_KEPT_FOR_FLASHINFER = 3
_TIMEOUT_S = 900.0
_LOG = logging.getLogger(__name__)


def warm_baselines(ops: tuple[str, ...]) -> dict[str, str]:
    """Fill the caches; baseline that cannot be had here → why.

    A formula that no child could compile is compiled, or fails, where it is timed.
    """
    measured = tuple(op for op in ops if op in VARIANTS)
    if find_spec("flashinfer") is None:
        missing = {FLASHINFER: "not installed"}
        failed = run_children(_formulas(measured), timeout_s=_TIMEOUT_S)
    else:
        missing = {}
        failed = run_children([*_formulas(measured), _flashinfer()], timeout_s=_TIMEOUT_S)
    for name, line in failed.items():
        _LOG.warning("%s: %s", name, line)
    return missing | {name: reason for name, reason in failed.items() if name == FLASHINFER}


def _formulas(ops: tuple[str, ...]) -> list[Child]:
    count = max(1, min(_MOST_CHILDREN, usable_cpus() - _KEPT_FOR_FLASHINFER))
    threads = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return [
        Child(
            name=f"formulas {part}",
            module=_MODULE,
            arguments=("formulas", str(part), str(count), ",".join(ops)),
            environment=threads,
        )
        for part in range(count)
        if ops
    ]


def _flashinfer() -> Child:
    return Child(name=FLASHINFER, module=_MODULE, arguments=("flashinfer",), environment={"MAX_JOBS": "4"})
