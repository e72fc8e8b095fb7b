"""The fused kernels of a pack in the worker processes of TensorRT-LLM's LLM: sent there, checked, counted.

The pack's own package puts them into the model (bwdeploy_kernels.tensorrt_llm). Each worker writes what it
runs into a file in a temporary directory, from where it is read here: the LLM API has no way back for it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bwdeploy_runtime.engines.kernels import import_pack
from bwdeploy_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PACKAGE: Final = "bwdeploy_kernels.tensorrt_llm"
_LAUNCHED_OUTSIDE: Final = "TLLM_SPAWN_PROXY_PROCESS"
"""Set by trtllm-llmapi-launch, whose workers may be on other machines."""
_RANKS: Final = ("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size")
_WAIT_S: Final = 30.0


class WorkerKernels:
    """The kernels of one LLM; made before the LLM, so that its workers get them."""

    def __init__(self, pack: Path, ops: Sequence[str], arguments: Mapping[str, Any]) -> None:
        """Have every worker process import the pack; `arguments` are those of the LLM.

        Raises:
            EngineError: the pack is broken, or TensorRT-LLM or an argument does not go with it.
        """
        import_pack(pack)
        self._errors = import_module("bwdeploy_kernels.errors")
        self._reports = import_module(f"{_PACKAGE}.reports")
        self._ops = tuple(ops)
        self._workers = 1
        for name in _RANKS:
            self._workers *= int(arguments.get(name) or 1)
        self._directory = Path(tempfile.mkdtemp(prefix="bwdeploy-kernels-"))
        entry, hook = import_module(f"{_PACKAGE}.entry"), import_module(f"{_PACKAGE}.hook")
        with self._refusals():
            entry.refuse_arguments(arguments)
            entry.enter(
                hook.Installation(pack=str(pack.resolve()), ops=self._ops, reports=str(self._directory))
            )

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While the LLM is made: tell why a worker gave up, which the LLM API does not.

        Raises:
            EngineError: a worker refused the pack.
        """
        try:
            yield
        except Exception as error:
            told = [report.error for report in self._reports.read_reports(self._directory) if report.error]
            self.close()
            if told:
                raise EngineError(f"the kernels {', '.join(self._ops)} cannot be used: {told[0]}") from error
            raise

    def modules(self) -> dict[str, int]:
        """Op → modules of the model that call it, the same in every worker.

        Raises:
            EngineError: a worker process did not import the pack.
        """
        elsewhere = os.environ.get(_LAUNCHED_OUTSIDE) == "1"
        wanted = 1 if elsewhere else self._workers
        deadline_s = time.monotonic() + _WAIT_S
        while len(reports := self._reports.read_reports(self._directory)) < wanted:
            if time.monotonic() > deadline_s:
                self.close()
                raise EngineError(
                    f"{len(reports)} of {wanted} worker processes of TensorRT-LLM imported the kernel pack. "
                    "They need the pack's directory on sys.path: with trtllm-llmapi-launch set PYTHONPATH."
                )
            time.sleep(0.05)
        return dict(reports[0].modules)

    def calls(self) -> dict[str, int]:
        """Op → how often it has run, in all workers of this machine."""
        counts = [report.calls for report in self._reports.read_reports(self._directory)]
        total: dict[str, int] = self._reports.summed(counts)
        return dict.fromkeys(self._ops, 0) | total

    def close(self) -> None:
        """End the reports."""
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except self._errors.PackError as error:
            self.close()
            raise EngineError(f"the kernels {', '.join(self._ops)} cannot be used: {error}") from error
