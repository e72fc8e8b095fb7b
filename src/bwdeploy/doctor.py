"""What this machine has for bwdeploy, and what to do about what it lacks; it only looks."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.facts.stacks import bad_pairs, modelopt_used, stacks
from bwdeploy.pipeline.host import distribution_version, probe_host
from bwdeploy.places import cache_directory
from bwdeploy.tools.triton_environment import TritonEnvironment, environment_name, fitting_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.pipeline.store import Store

_MODEL_PACKAGES = ("torch", "transformers", "nvidia-modelopt", "gguf", "safetensors", "datasets")
_ABSENT = "absent"
_GIB = 2**30
_LOW_SPACE_GIB = 5
_DRIVER = Path("/proc/driver/nvidia/version")
_DRIVER_VERSION = re.compile(r"\b(\d{3,4}(?:\.\d+)+)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def diagnose(store: Store) -> tuple[Diagnosis, ...]:
    """Look at everything that a build or a server needs."""
    return (
        _python(),
        _models(),
        _modelopt(),
        _device(),
        _driver(),
        *_servers(),
        _space(store),
    )


def _python() -> Diagnosis:
    return Diagnosis(
        name="python",
        ok=fitting_python(),
        detail=probe_host().python,
        hint="The bundled Triton server needs CPython 3.11 or 3.12 with a shared libpython",
    )


def _models() -> Diagnosis:
    versions = {name: distribution_version(name) for name in _MODEL_PACKAGES}
    missing = [name for name, version in versions.items() if version == _ABSENT]
    return Diagnosis(
        name="model packages",
        ok=not missing,
        detail=", ".join(f"{name} {version}" for name, version in versions.items()),
        hint="pip install 'bwdeploy[models]'",
    )


def _modelopt() -> Diagnosis:
    """Whether the installed ModelOpt is the one that exports were checked with, and no known bad partner."""
    installed, llm = distribution_version("nvidia-modelopt"), distribution_version("tensorrt-llm")
    bad = [
        pair.what for pair in bad_pairs() if installed.startswith(pair.modelopt) and llm == pair.tensorrt_llm
    ]
    used = modelopt_used()
    return Diagnosis(
        name="ModelOpt",
        ok=installed in {_ABSENT, used} and not bad,
        detail=f"{installed}, TensorRT-LLM {llm}: {bad[0]}" if bad else installed,
        hint=f"pip install nvidia-modelopt=={used}; exports were checked with that version",
    )


def _driver() -> Diagnosis:
    """The NVIDIA driver against what the Triton images were made for; read from /proc, nothing is started."""
    driver = driver_version(_DRIVER)
    if driver is None:
        return Diagnosis(name="NVIDIA driver", ok=True, detail="none here; a machine with a GPU needs one")
    fitting = [stack for stack in stacks() if _numbers(stack.driver) <= _numbers(driver)]
    newest = stacks()[-1]
    carries = f"images up to {fitting[-1].image} run" if fitting else "no Triton image with TensorRT-LLM runs"
    return Diagnosis(
        name="NVIDIA driver",
        ok=bool(fitting) and fitting[-1] == newest,
        detail=f"{driver}: {carries}",
        hint=f"TensorRT-LLM {newest.tensorrt_llm} (image {newest.image}, CUDA {newest.cuda}) was made for "
        "driver "
        f"{newest.driver}; update the driver",
    )


def driver_version(file: Path) -> str | None:
    """The version in the kernel module's own file, None without a driver."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")[:10_000]
    except OSError:
        return None
    found = _DRIVER_VERSION.search(text)
    return found[1] if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _device() -> Diagnosis:
    device = probe_host().device
    return Diagnosis(
        name="device",
        ok=True,
        detail="CUDA GPU"
        if device == "cuda"
        else "CPU: quantization and the reference runtime run on it, slower",
    )


def _servers() -> Iterator[Diagnosis]:
    bundled = TritonEnvironment(root=cache_directory() / environment_name())
    yield Diagnosis(
        name="bundled Triton",
        ok=True,
        detail=f"{bundled.root}"
        if bundled.is_usable()
        else "not installed yet; the first `serve` installs it",
    )
    system = shutil.which("tritonserver")
    yield Diagnosis(name="system Triton", ok=True, detail=system or "none (serve --server system needs it)")
    container = shutil.which("docker") or shutil.which("podman")
    yield Diagnosis(
        name="containers",
        ok=True,
        detail=container or "none (serve --server container needs docker or podman)",
    )
    llm = distribution_version("tensorrt-llm")
    yield Diagnosis(
        name="tensorrt-llm",
        ok=True,
        detail=llm if llm != _ABSENT else "none here; the NGC container of the recipe's version carries it",
    )


def _space(store: Store) -> Diagnosis:
    existing = next(path for path in (store.root, *store.root.parents) if path.exists())
    free_gib = shutil.disk_usage(existing).free / _GIB
    return Diagnosis(
        name="store",
        ok=free_gib > _LOW_SPACE_GIB,
        detail=f"{store.root}, {free_gib:.1f} GiB free",
        hint="`bwdeploy store gc` removes what no recipe uses; BWDEPLOY_STORE names another place",
    )
