"""Whether a pack fits this host: decided from its manifest alone, before any of its code is loaded.

Kernels are machine code for exact architectures (`sm_90a` runs on compute capability 9.0 and nothing else)
with the CUDA runtime linked in, which needs a driver of at least its own major release:
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy_kernels.manifest import Manifest, Version

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What decides whether a pack can run in this process."""

    gpu: str | None
    """Name of torch's current CUDA device; None: torch sees none."""
    sm: Version | None
    """Its compute capability."""
    driver_cuda: Version | None
    """Newest CUDA release that the driver runs; None: no driver."""
    machine: str
    glibc: Version | None
    """None: the C library is another one."""
    libstdcxx: Version | None
    """Newest GLIBCXX symbols of the libstdc++ that this process has loaded; None: it has none."""
    torch: Version


def host_facts(device: Device) -> HostFacts:
    """Look at this process; with `cpu` no GPU is touched."""
    torch = import_module("torch")
    seen = device == "cuda" and torch.cuda.is_available()
    return HostFacts(
        gpu=torch.cuda.get_device_name() if seen else None,
        sm=torch.cuda.get_device_capability() if seen else None,
        driver_cuda=_driver_cuda() if device == "cuda" else None,
        machine=platform.machine(),
        glibc=_glibc(),
        libstdcxx=_libstdcxx() if device == "cuda" else None,
        torch=_version(torch.__version__) or (0, 0),
    )


def misfits(manifest: Manifest, host: HostFacts, *, device: Device) -> tuple[str, ...]:
    """Why the pack cannot be loaded for `device`, one sentence each with got, wanted and what to do.

    On `cpu` only the references are loaded: they need torch, and no GPU, driver or C library.
    """
    on_gpu = _cuda_misfits(manifest, host) if device == "cuda" else ()
    return (*_torch_misfits(manifest, host), *on_gpu)


def _torch_misfits(manifest: Manifest, host: HostFacts) -> Iterator[str]:
    if host.torch < manifest.torch_stable:
        yield (
            f"torch: got {_dotted(host.torch)}, wanted {_dotted(manifest.torch_stable)} or newer. "
            "Install a newer torch."
        )


def _cuda_misfits(manifest: Manifest, host: HostFacts) -> Iterator[str]:
    yield from _gpu_misfits(manifest, host)
    wanted = (manifest.cuda_runtime[0], 0)
    if host.driver_cuda is None or host.driver_cuda < wanted:
        got = "no driver" if host.driver_cuda is None else f"one for CUDA {_dotted(host.driver_cuda)}"
        yield (
            f"NVIDIA driver: got {got}, wanted one for CUDA {_dotted(wanted)} or newer "
            f"(release {manifest.minimum_driver}). Update the driver, or run `bwdeploy kernels build` with "
            "an older nvcc."
        )
    if host.machine != manifest.machine:
        yield (
            f"machine: got {host.machine}, wanted {manifest.machine}. "
            f"Run `bwdeploy kernels build` on a machine with {host.machine}."
        )
    yield from _library_misfits("glibc", host.glibc, manifest.glibc)
    yield from _library_misfits("libstdc++", host.libstdcxx, manifest.libstdcxx)


def _library_misfits(library: str, got: Version | None, least: Version) -> Iterator[str]:
    if got is None or got < least:
        yield (
            f"{library}: got {_dotted(got) if got else 'none'}, wanted {_dotted(least)} or newer. "
            "Run `bwdeploy kernels build` on this or an older system."
        )


def _gpu_misfits(manifest: Manifest, host: HostFacts) -> Iterator[str]:
    if host.sm is None:
        yield "GPU: got none that torch can use, wanted one. Start on a GPU, or load it for cpu."
        return
    target = f"sm_{host.sm[0]}{host.sm[1]}a"
    build = f"Run `bwdeploy kernels build --arch {target}` if `bwdeploy kernels list` has it."
    if target not in manifest.sms:
        yield (
            f"GPU architecture: got {target} ({host.gpu}), wanted one of {', '.join(manifest.sms)}. {build}"
        )
        return
    for op in manifest.ops:
        if target not in op.architectures:
            built = ", ".join(op.architectures) or "none"
            yield f"GPU architecture of {op.name}: got {target} ({host.gpu}), wanted one of {built}. {build}"


def _driver_cuda() -> Version | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None
    return number.value // 1000, number.value % 1000 // 10


def _glibc() -> Version | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None
    return _version(text.removeprefix("glibc ")) if text else None


def _libstdcxx() -> Version | None:
    """What torch brought into this process decides, not what the system has."""
    library = mapped_libstdcxx(Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape"))
    try:
        content = library.read_bytes() if library else b""
    except OSError:  # replaced on disk since it was loaded
        return None
    symbols = re.findall(rb"GLIBCXX_(3)\.(4)\.(\d+)", content)
    return max((tuple(int(part) for part in symbol) for symbol in symbols), default=None)


def mapped_libstdcxx(maps: str) -> Path | None:
    """The libstdc++ of a process with these /proc/PID/maps, whose paths may have spaces."""
    found = re.search(r"(?m)^(?:\S+ +){5}(/.*/libstdc\+\+\.so\.6.*)$", maps)
    return Path(found[1]) if found else None


def _version(text: str) -> Version | None:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)
