"""Rules on launch files beside a repository: scripts, compose and Kubernetes files, as plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.reading import DescribedRule
from bwdeploy.serving.repository_check.model import RepositoryProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES = frozenset({".sh", ".bash", ".yaml", ".yml", ".env", ".service", ".sbatch", ".slurm", ".py"})
_NAMES = frozenset({"Dockerfile", "Makefile", "Procfile"})
_MAX_BYTES = 1_000_000
_CONTROL = re.compile(r"--model-control-mode[=\s\"',]+(explicit|poll)\b")
_PREFIX = re.compile(r"shm-region-prefix-name=([\w${}.-]+)")
_GUARDED = "triton_python_backend_shm_region_"
_FRONT_END = re.compile(r"--allow-(sagemaker|vertex-ai)[=\s\"',]+(true|1)\b", re.IGNORECASE)


def launch_problems(directory: Path) -> Iterator[RepositoryProblem]:
    """Everything wrong with the launch files directly inside `directory`."""
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if file.is_file() and (file.suffix in _SUFFIXES or file.name in _NAMES):
            for number, line in enumerate(_lines(file), start=1):
                if not line.lstrip().startswith("#"):
                    yield from _line_problems(file, number, line)


def _line_problems(file: Path, number: int, line: str) -> Iterator[RepositoryProblem]:
    if found := _CONTROL.search(line):
        message = f"in model control mode {found[1]} models are loaded while the server runs"
        hint = "write --model-control-mode=none"
        yield RepositoryProblem("triton-model-control", file, number, message, hint)
    for prefix in _PREFIX.findall(line):
        if not prefix.startswith(_GUARDED):
            message = f"shared memory named {prefix}… is open to clients"
            hint = f"write shm-region-prefix-name={_GUARDED}{prefix}"
            yield RepositoryProblem("triton-shm-prefix", file, number, message, hint)
    if found := _FRONT_END.search(line):
        message = f"the {found[1]} front end is on"
        hint = f"write --allow-{found[1]}=false"
        yield RepositoryProblem("triton-front-end", file, number, message, hint)


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


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
        "triton-front-end",
        "warning",
        "the SageMaker or Vertex front end is on",
        "https://github.com/triton-inference-server/server/pull/8833",
        "Its routes ignored the list of restricted APIs.",
    ),
)
