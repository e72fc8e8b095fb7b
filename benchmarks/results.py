"""Write one benchmark's result as JSON, with the machine and the command that repeats it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from bwdeploy.pipeline.host import distribution_version

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("torch", "transformers", "nvidia-modelopt", "pydantic", "typer", "tritonclient")


def write_result(name: str, measured: Any, *, command: str = "", commit: str = "") -> None:
    """`command` is what repeats it, when that is more than the module of the same name.

    `commit` names the sources where they were copied to a machine without their history.
    """
    command = command or f"python -m benchmarks.{name}"
    here = machine()
    result = {
        "command": command,
        "machine": here | {"commit": commit or here["commit"]},
        "measured": measured,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "packages": {name: distribution_version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _gpu() -> str | None:
    """Name, driver, memory and clocks as the driver says; None without one."""
    query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parent,
    )
    return done.stdout.strip()
