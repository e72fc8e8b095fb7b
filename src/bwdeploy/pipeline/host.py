"""What this machine is, as far as a build depends on it. Cheap: nothing heavy is imported or started."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from bwdeploy.pipeline.jobs import Device  # noqa: TC001 - part of the dataclass's run-time type

_NVIDIA_CONTROL_DEVICE = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine a build runs on."""

    device: Device
    """Where models are quantized and evaluated: the GPU when there is one and torch was built for CUDA."""
    machine: str
    """Processor architecture, for example x86_64."""
    system: str
    python: str
    cores: int

    def as_json(self) -> dict[str, str | int]:
        """The host as recorded in `bwdeploy.json`; names no user, path or address."""
        return asdict(self)


def probe_host(*, device: Device | None = None) -> Host:
    """Look at this machine; `device` is of the machine that jobs run on, when that is another one."""
    return Host(
        device=device or ("cuda" if _has_cuda() else "cpu"),
        machine=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        cores=os.cpu_count() or 1,
    )


def distribution_version(distribution: str) -> str:
    """Installed version of a Python distribution; `absent` when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _has_cuda() -> bool:
    return _NVIDIA_CONTROL_DEVICE.exists() and not distribution_version("torch").endswith("+cpu")
