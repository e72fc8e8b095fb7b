"""The executors: `pipeline.jobs.Executor` on top of the launchers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import bwdeploy
import bwdeploy_kernels
from bwdeploy.places import shipped_plugins
from bwdeploy.tools.executors.container import ContainerLauncher
from bwdeploy.tools.executors.enroot import EnrootLauncher
from bwdeploy.tools.executors.local import LocalLauncher
from bwdeploy.tools.executors.programs import launch_of, program_path, run_program
from bwdeploy.tools.executors.slurm import SlurmLauncher
from bwdeploy.tools.executors.worker_jobs import WorkerFiles, WorkerPlace, run_worker
from bwdeploy.tools.lm_eval import LM_EVAL, require_lm_eval
from bwdeploy.tools.nvcc import NVCC, find_nvcc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bwdeploy.pipeline.jobs import (
        Device,
        JobRequest,
        ProgramNeed,
        Progress,
        ResultT,
        ToolResult,
        ToolRun,
    )
    from bwdeploy.tools.executors.launch import Launcher
    from bwdeploy.tools.executors.settings import ExecutorSettings

_PYTHON_IN_IMAGES = "python3"
_OF_WORKERS: Mapping[str, Callable[[], object]] = {NVCC: find_nvcc, LM_EVAL: require_lm_eval}
"""What a worker job itself uses, with how it is looked for on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExecutor:
    """Runs worker jobs in one place and programs of TensorRT-LLM in the same or another."""

    workers: WorkerPlace
    programs: Launcher
    tools: Mapping[str, str] = field(default_factory=dict)
    """Program → its path where it runs."""
    device: Device | None = None
    """Of the machine that worker jobs run on; None: of this one."""

    def run(
        self,
        request: JobRequest[ResultT],
        *,
        log: Path,
        scratch: Path,
        on_progress: Callable[[Progress], None],
    ) -> ResultT:
        """Run `request` in a worker process and wait for it; see `Executor.run`."""
        return run_worker(self.workers, request, files=WorkerFiles(log, scratch), on_progress=on_progress)

    def require(self, need: ProgramNeed) -> None:
        """Tell at once what `run_tool` would refuse; see `Executor.require`.

        What a worker job uses is looked for now when the job will run on this machine, else by the job.
        """
        if need.program in _OF_WORKERS:
            if isinstance(self.workers.launcher, LocalLauncher):
                _OF_WORKERS[need.program]()
            return
        self.programs.require(need.model_copy(update={"program": program_path(need, self.tools)}))

    def run_tool(
        self, tool: ToolRun, *, log: Path, scratch: Path, on_progress: Callable[[Progress], None]
    ) -> ToolResult:
        """Run an outside program and wait for it; see `Executor.run_tool`."""
        launch = launch_of(tool, paths=self.tools, log=log, scratch=scratch)
        return run_program(self.programs, tool, launch=launch, on_progress=on_progress)


def local_executor(*, python: str = sys.executable, tools: Mapping[str, str] | None = None) -> JobExecutor:
    """The executor `local`: everything runs on this machine, worker jobs with the interpreter `python`."""
    launcher = LocalLauncher()
    return JobExecutor(workers=WorkerPlace(launcher, python), programs=launcher, tools=tools or {})


def container_executor(settings: ExecutorSettings) -> JobExecutor:
    """The executor `container`: programs in the Triton image, worker jobs here unless an image is named."""
    workers = WorkerPlace(LocalLauncher(), sys.executable)
    if settings.container.worker_image is not None:
        packages = [Path(bwdeploy.__file__).parent, Path(bwdeploy_kernels.__file__).parent]
        above = dict.fromkeys(str(package.parent) for package in packages)
        workers = WorkerPlace(
            _container(settings, settings.container.worker_image),
            _PYTHON_IN_IMAGES,
            reads=(*packages, shipped_plugins()),
            environment={"PYTHONPATH": os.pathsep.join(above)},
        )
    programs = _container(settings, settings.container.image)
    return JobExecutor(workers=workers, programs=programs, tools=settings.tools, device=settings.device)


def slurm_executor(settings: ExecutorSettings, *, python: str = sys.executable) -> JobExecutor:
    """The executor `slurm`: everything runs as jobs, worker jobs with the interpreter `python`."""
    launcher = SlurmLauncher(settings=settings.slurm, passed=settings.environment)
    workers = WorkerPlace(launcher, python)
    return JobExecutor(workers=workers, programs=launcher, tools=settings.tools, device=settings.device)


def _container(settings: ExecutorSettings, image: str | None) -> Launcher:
    launcher = EnrootLauncher if settings.container.program == "enroot" else ContainerLauncher
    return launcher(settings=settings.container, image=image, passed=settings.environment)
