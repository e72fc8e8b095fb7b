"""Adapter of nvidia-smi: what a GPU is doing while it is measured."""

from __future__ import annotations

import subprocess

from bwdeploy.errors import HostError

_TIMEOUT_S = 30
_QUERIES = {
    "driver": "driver_version",
    "sm_clock": "clocks.sm",
    "max_sm_clock": "clocks.max.sm",
    "memory_clock": "clocks.mem",
    "power": "power.draw",
    "temperature_c": "temperature.gpu",
}


def gpu_state(uuid: str) -> dict[str, str]:
    """Driver, clocks, power and temperature of a GPU, as nvidia-smi writes them; empty without it."""
    wanted = f"--query-gpu={','.join(_QUERIES.values())}"
    answer = _asked([wanted, "--format=csv,noheader", "-i", uuid])
    values = [value.strip() for value in answer.split(",")]
    return dict(zip(_QUERIES, values, strict=True)) if len(values) == len(_QUERIES) else {}


def compute_capability() -> str:
    """Of the first GPU, without the dot: `90`.

    Raises:
        HostError: nvidia-smi finds no GPU.
    """
    found = _asked(["--query-gpu=compute_cap", "--format=csv,noheader"]).splitlines()
    if not found:
        raise HostError("nvidia-smi: got no GPU, wanted one", hint="Measure on the machine that serves")
    return found[0].strip().replace(".", "")


def _asked(arguments: list[str]) -> str:
    """What nvidia-smi writes; empty without it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments],  # noqa: S607 - the driver installs it into the PATH
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
