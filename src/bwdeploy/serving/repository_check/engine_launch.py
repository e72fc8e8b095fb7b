"""Rules on launch files of a repository with an engine: the image's version and the number of processes.

Read as text: the files among the models, and those beside the repository that name its directory.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.facts.stacks import stack_of_image, triton_image
from bwdeploy.serving.repository_check.launch import launch_files, launch_lines
from bwdeploy.serving.repository_check.model import RepositoryProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bwdeploy.engines.directory import EngineDirectory
    from bwdeploy.serving.repository_check.engines import ServedEngine

_IMAGE = re.compile(r"nvidia/tritonserver:(?P<tag>2\d\.\d\d)-trtllm")
_SERVER = re.compile(r"(?:^|[\s\"'/])tritonserver(?=[\s\"']|$)")
_LAUNCHER = re.compile(r"\blaunch_triton_server\.py\b")
_WORLD_SIZE = re.compile(r"--world[_-]size[=\s\"',]+(\d{1,5})\b")
_MPI = re.compile(r"(?:^|[\s\"'/])(?:mpirun|mpiexec|srun)(?=[\s\"']|$)")
_PROCESSES = re.compile(r"(?<!\S)(?:-np?|--np|--n|--ntasks)[=\s]+(\d{1,5})\b")
_WORKERS = re.compile(r"--multi-model\b|TRTLLM_ORCHESTRATOR")
_SHELL = frozenset({".sh", ".bash", ".sbatch", ".slurm"})


class _Command(NamedTuple):
    """One command of a file, its continued lines joined."""

    line: int
    text: str


def engine_launch_problems(directory: Path, engines: Sequence[ServedEngine]) -> Iterator[RepositoryProblem]:
    """Everything in launch files that does not fit the engines; with none on this machine, nothing."""
    if not engines:
        return
    engine = engines[0].engine
    alike = {(one.engine.mapping.world_size, one.engine.version) for one in engines}
    for file in _files(directory):
        commands = _commands(file)
        if len({version for _, version in alike}) == 1:
            yield from _version_problems(file, commands, engine)
        orchestrated = any(_WORKERS.search(command.text) for command in commands)
        if len(alike) == 1 and not orchestrated:
            yield from _world_size_problems(file, commands, engine)


def _files(directory: Path) -> Iterator[Path]:
    yield from launch_files(directory)
    for file in launch_files(directory.absolute().parent):
        if any(directory.absolute().name in line for line in launch_lines(file)):
            yield file


def _commands(file: Path) -> list[_Command]:
    """Commands by the line that they start on; comments left out."""
    found: list[_Command] = []
    open_ = False
    for number, line in enumerate(launch_lines(file), start=1):
        if line.lstrip().startswith("#"):
            continue
        text = line.rstrip().removesuffix("\\")
        if open_:
            found[-1] = _Command(found[-1].line, f"{found[-1].text} {text}")
        else:
            found.append(_Command(number, text))
        open_ = line.rstrip().endswith("\\")
    return found


def _version_problems(
    file: Path, commands: list[_Command], engine: EngineDirectory
) -> Iterator[RepositoryProblem]:
    for command in commands:
        found = _IMAGE.search(command.text)
        stack = stack_of_image(found["tag"]) if found else None
        if stack is None or engine.version is None or stack.tensorrt_llm == engine.version:
            continue
        message = (
            f"image {stack.image} carries TensorRT-LLM {stack.tensorrt_llm}, and {engine.version} built the "
            "engine"
        )
        fitting = triton_image(engine.version)
        build = f"build the engine again with TensorRT-LLM {stack.tensorrt_llm}"
        hint = f"take image {fitting}, or {build}" if fitting else build
        yield RepositoryProblem("triton-engine-version", file, command.line, message, hint)


def _world_size_problems(
    file: Path, commands: list[_Command], engine: EngineDirectory
) -> Iterator[RepositoryProblem]:
    is_plain = file.suffix in _SHELL and not any(_MPI.search(command.text) for command in commands)
    ranks = engine.mapping.world_size
    for command in commands:
        count = _processes(command.text, alone_is_one=is_plain)
        if count is not None and count != ranks:
            message = f"{count} {'process is' if count == 1 else 'processes are'} started for an engine of "
            message += f"{ranks} rank{'s'[: ranks != 1]}"
            hint = f"start {ranks}: launch_triton_server.py --world_size {ranks}"
            yield RepositoryProblem("triton-engine-world-size", file, command.line, message, hint)


def _processes(text: str, *, alone_is_one: bool) -> int | None:
    """How many server processes a command starts; None when it starts none, or does not say it."""
    if found := _WORLD_SIZE.search(text):
        return int(found[1])
    if _LAUNCHER.search(text):
        return 1  # its default
    if not _SERVER.search(text):
        return None
    if _MPI.search(text):
        counts = [int(number) for number in _PROCESSES.findall(text)]
        return sum(counts) if counts else None
    return 1 if alone_is_one else None


ENGINE_LAUNCH_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-engine-version",
        "error",
        "an engine of another version than the image",
        "https://github.com/triton-inference-server/server/issues/7362 · "
        "https://github.com/triton-inference-server/server/issues/8462",
        "An engine loads only in the TensorRT-LLM that built it, to the patch; the model does not load.",
    ),
    DescribedRule(
        "triton-engine-world-size",
        "error",
        "another number of processes than the engine has ranks",
        "https://github.com/NVIDIA/TensorRT-LLM/issues/2813 · "
        "https://github.com/triton-inference-server/tensorrtllm_backend/issues/377 · "
        "https://github.com/triton-inference-server/tensorrtllm_backend/issues/576",
        "The server hangs while it loads, or MPI aborts it.",
    ),
)
"""Rules about launch files beside an engine."""
