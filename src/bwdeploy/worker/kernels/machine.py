"""The GPU that is measured: its architecture as packs name it, and its state before and after."""

from __future__ import annotations

import torch

from bwdeploy.errors import HostError
from bwdeploy.pipeline.host import distribution_version
from bwdeploy.tools.nvidia_smi import gpu_state


def require_gpu() -> str:
    """The architecture of the GPU of this process, for example `sm_90a`.

    Raises:
        HostError: there is none.
    """
    if not torch.cuda.is_available():
        raise HostError(
            "kernels bench: got no CUDA GPU, wanted one",
            hint="Measure on the machine that serves; `bwdeploy kernels test` runs on the CPU too",
        )
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}a"


def describe_machine() -> dict[str, str]:
    """GPU and versions, without its state."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": str(torch.version.cuda),
        "torch": str(torch.__version__),
        "flashinfer": distribution_version("flashinfer-python"),
    }


def state(moment: str) -> dict[str, str]:
    """Driver, clocks, power and temperature right now, each under `<moment>_<what>` but the driver."""
    now = gpu_state(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    return {name if name == "driver" else f"{moment}_{name}": value for name, value in now.items()}
