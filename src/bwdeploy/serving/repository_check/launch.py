"""Rules on launch files beside a repository: scripts, compose and Kubernetes files, as plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.facts.stacks import image_security
from bwdeploy.serving.repository_check.model import RepositoryProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES = frozenset({".sh", ".bash", ".yaml", ".yml", ".env", ".service", ".sbatch", ".slurm", ".py"})
_NAMES = frozenset({"Dockerfile", "Makefile", "Procfile"})
_MAX_BYTES = 1_000_000
_CONTROL = re.compile(r"--model-control-mode[=\s\"',]+(explicit|poll)\b")
_CLOSED = ("--allow-http=false", "--allow-grpc=false")
_NEXT_PROCESS = re.compile(r"(?:^|\s):(?=\s|$)")
_PREFIX = re.compile(r"shm-region-prefix-name=([\w${}.-]+)")
_GUARDED = "triton_python_backend_shm_region_"
_IMAGE = re.compile(r"nvidia/tritonserver:(?P<tag>2\d\.\d\d)\b")
_EXIT_TIMEOUT = re.compile(r"--exit-timeout-secs[=\s\"',]+(\d{1,6})\b")
_GRACE = re.compile(r"terminationGracePeriodSeconds\"?:\s*(\d{1,6})\b")
_PERF = re.compile(r"\bgenai-perf\b.*--backend[=\s\"',]+tensorrtllm\b")
_FRONT_END = re.compile(r"--allow-(sagemaker|vertex-ai)[=\s\"',]+(true|1)\b", re.IGNORECASE)


def launch_problems(directory: Path) -> Iterator[RepositoryProblem]:
    """Everything wrong with the launch files directly inside `directory`."""
    for file in launch_files(directory):
        yield from _grace_problems(file)
        yield from _control_problems(file)
        for number, line in enumerate(launch_lines(file), start=1):
            if not line.lstrip().startswith("#"):
                yield from _line_problems(file, number, line)


def launch_files(directory: Path) -> Iterator[Path]:
    """The files directly inside `directory` that may start a server."""
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if file.is_file() and (file.suffix in _SUFFIXES or file.name in _NAMES):
            yield file


def launch_lines(file: Path) -> list[str]:
    """Its lines; none for a file that cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


def _line_problems(file: Path, number: int, line: str) -> Iterator[RepositoryProblem]:
    if found := _IMAGE.search(line):
        yield from _image_problems(file, number, found["tag"])
    if _PERF.search(line):
        message = "this mode of the load generator sends names that llmapi does not have, and counts wrong"
        hint = "use its template mode, with streamed deltas"
        yield RepositoryProblem("triton-load-test", file, number, message, hint)
    for prefix in _PREFIX.findall(line):
        if not prefix.startswith(_GUARDED):
            message = f"shared memory named {prefix}… is open to clients"
            hint = f"write shm-region-prefix-name={_GUARDED}{prefix}"
            yield RepositoryProblem("triton-shm-prefix", file, number, message, hint)
    for found in _FRONT_END.finditer(line):
        message = f"the {found[1]} front end is on"
        hint = f"write --allow-{found[1]}=false"
        yield RepositoryProblem("triton-front-end", file, number, message, hint)


def _control_problems(file: Path) -> Iterator[RepositoryProblem]:
    for process in _processes(file):
        text = " ".join(part for _, part in process)
        if all(closed in text for closed in _CLOSED):
            continue  # a rank without doors: nobody can ask it to load anything
        for number, part in process:
            if found := _CONTROL.search(part):
                message = f"in model control mode {found[1]} models are loaded while the server runs"
                hint = "write --model-control-mode=none"
                yield RepositoryProblem("triton-model-control", file, number, message, hint)


def _processes(file: Path) -> Iterator[list[tuple[int, str]]]:
    """The parts of each process that a file starts, with their lines; mpirun puts colons between them."""
    process: list[tuple[int, str]] = []
    for number, line in enumerate(launch_lines(file), start=1):
        if line.lstrip().startswith("#"):
            continue
        first, *others = _NEXT_PROCESS.split(line)
        process.append((number, first))
        for other in others:
            yield process
            process = [(number, other)]
        if not line.rstrip().endswith("\\"):
            yield process
            process = []
    yield process


def _grace_problems(file: Path) -> Iterator[RepositoryProblem]:
    lines = list(enumerate(launch_lines(file), start=1))
    timeouts = [(number, int(found[1])) for number, line in lines if (found := _EXIT_TIMEOUT.search(line))]
    graces = [int(found[1]) for _, line in lines if (found := _GRACE.search(line))]
    for number, timeout in timeouts if graces else ():
        if timeout >= min(graces):
            message = f"the server may take {timeout} s to exit and is killed after {min(graces)} s"
            hint = f"set terminationGracePeriodSeconds above {timeout}, plus the wait of preStop"
            yield RepositoryProblem("triton-grace-period", file, number, message, hint)


def _image_problems(file: Path, number: int, tag: str) -> Iterator[RepositoryProblem]:
    fixed, advised = image_security()
    if tag < fixed:
        message, hint = f"Triton {tag} has known remote holes", f"take {advised} or newer"
        yield RepositoryProblem("triton-image-holes", file, number, message, hint)
    elif tag < advised:
        message, hint = f"Triton {tag} lacks fixes of {advised}", f"take {advised} or newer"
        yield RepositoryProblem("triton-image-old", file, number, message, hint)


LAUNCH_RULES: tuple[DescribedRule, ...] = (
    DescribedRule(
        "triton-model-control",
        "error",
        "models can be loaded while the server runs",
        "triton-inference-server/server docs/customization_guide/deploy.md",
        "A load request may carry the model's files: whoever reaches the port runs code.",
    ),
    DescribedRule(
        "triton-shm-prefix",
        "error",
        "shared memory outside the server's guard",
        "https://nvd.nist.gov/vuln/detail/CVE-2025-23319",
        "Servers from 25.07 keep clients out of regions with the default prefix only; another prefix "
        "opens the "
        "Python backend's memory to them.",
    ),
    DescribedRule(
        "triton-image-holes",
        "error",
        "an image with known remote holes",
        "https://nvd.nist.gov/vuln/detail/CVE-2025-23319",
        "Whoever reaches the port can run code in servers older than 25.07.",
    ),
    DescribedRule(
        "triton-image-old",
        "warning",
        "an image without the newest fixes",
        "https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/",
        "Later images fix holes that need a request only.",
    ),
    DescribedRule(
        "triton-grace-period",
        "warning",
        "a grace period that ends before the server does",
        "triton-inference-server/server docs/user_guide/architecture.md",
        "Requests that were running are cut when the container is killed.",
    ),
    DescribedRule(
        "triton-load-test",
        "warning",
        "a load test in a mode that does not fit",
        "triton-inference-server/perf_analyzer genai-perf",
        "Requests are refused or measured with wrong token counts, and the figures mean nothing.",
    ),
    DescribedRule(
        "triton-front-end",
        "warning",
        "the SageMaker or Vertex front end is on",
        "https://github.com/triton-inference-server/server/pull/8833",
        "Its routes ignored the list of restricted APIs.",
    ),
)
