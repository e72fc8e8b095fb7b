"""A machine with the stand-in for nvcc: programs on PATH, plugins, a cache, a record of what was compiled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bwdeploy.kernels.compile_plan import OpPlan, TorchPlace, plan_op
from bwdeploy.kernels.ops import read_op
from bwdeploy.tools.nvcc import Nvcc
from tests.kernels.elf_file import shared_library
from tests.kernels.sample import copy_of_sample, installed_with

STAND_IN = Path(__file__).with_name("stand_in_nvcc.py")
FIT = shared_library(
    ("libtorch_cpu.so", "libstdc++.so.6", "libc.so.6"),
    {"libc.so.6": ("GLIBC_2.34",), "libstdc++.so.6": ("GLIBCXX_3.4.26",)},
)


@dataclass
class NvccPlace:
    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plugins = copy_of_sample(self.root)
        self.bin = self.root / "bin"
        self.bin.mkdir()
        put_stand_in(self.bin / "nvcc")
        (self.root / "pids").mkdir()
        (self.root / "library.so").write_bytes(FIT)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in {"CUDA_HOME", "NVCC_CCBIN"}},
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "BWDEPLOY_CACHE": str(self.root / "cache"),
            "STAND_IN_LIBRARY": str(self.root / "library.so"),
            "STAND_IN_RECORD": str(self.root / "record"),
            "STAND_IN_PIDS": str(self.root / "pids"),
        }

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every compile and link so far."""
        record = self.root / "record"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    @property
    def compiled(self) -> list[str]:
        return [call["files"][0] for call in self.calls if "-c" in call["options"]]

    @property
    def running(self) -> list[int]:
        """Compilers that did not come to their end."""
        return [int(path.name) for path in (self.root / "pids").iterdir()]

    @property
    def entries(self) -> list[Path]:
        """Cached objects."""
        return sorted(
            path
            for path in (self.root / "cache" / "kernels").rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    @property
    def nvcc(self) -> Nvcc:
        """The stand-in, without asking it what it is."""
        return Nvcc(
            path=self.bin / "nvcc",
            version="13.0.88",
            codes=frozenset({"sm_90", "sm_120"}),
            host_compiler="g++ 12.2.0",
            libraries=(),
        )

    def plan(self, *sms: str) -> OpPlan:
        torch = TorchPlace(version="2.9.0", include=self.root, libraries=self.root)
        return plan_op(read_op(self.plugins / "double_rows"), sms=sms or ("sm_90a",), torch=torch)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The command line, as installed with the plugins of this place."""
        site = self.root / "site"
        if not site.exists():
            installed_with(self.plugins, self.root)
        return subprocess.Popen(
            [sys.executable, "-m", "bwdeploy", *arguments],
            cwd=self.root,
            env={**self.environment, "PYTHONPATH": str(site), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        with self.start(*arguments, **environment) as process:
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == code, stderr
        return stdout, stderr


def put_stand_in(path: Path) -> None:
    """Make `path` the stand-in; its own python, whatever PATH says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(STAND_IN, path.with_suffix(".py"))
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "{path.with_suffix(".py")}" "$@"\n')
    path.chmod(0o755)
