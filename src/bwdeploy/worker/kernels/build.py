"""Compile ops and write a pack: libraries, references, the package that loads them, the manifest last.

    lib/<op>.so, reference/<op>.py, tensorrt/… (see `tensorrt`), bwdeploy_kernels/…, manifest.json

Needs nvcc and the headers of an installed torch, no GPU. torch is not imported.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import bwdeploy_kernels
from bwdeploy.errors import HostError, ToolError
from bwdeploy.kernels.compile_plan import OpPlan, TorchPlace, plan_op
from bwdeploy.kernels.digests import source_files
from bwdeploy.kernels.manifest import BuiltOp, pack_manifest, unfit
from bwdeploy.kernels.measured import measured_file, read_measured
from bwdeploy.kernels.ops import REFERENCE, read_ops
from bwdeploy.kernels.resources import kernel_resources
from bwdeploy.kernels.selection import chosen_ops, chosen_sms
from bwdeploy.kernels.shared_library import read_shared_library
from bwdeploy.pipeline.digests import sha256_of
from bwdeploy.pipeline.host import distribution_version
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.kernel_jobs import KernelBuildResult
from bwdeploy.pipeline.trees import content_files
from bwdeploy.places import shipped_plugins
from bwdeploy.tools.nvcc import find_nvcc
from bwdeploy.tools.nvcc_compile import CompileResult, Workshop
from bwdeploy.tools.nvcc_objects import user_objects
from bwdeploy.worker.kernels.tensorrt import plugin_library
from bwdeploy.worker.process import usable_cpus
from bwdeploy_kernels.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bwdeploy.kernels.compile_plan import CompileUnit
    from bwdeploy.pipeline.kernel_jobs import KernelBuild

_STABLE_HEADER = Path("torch", "csrc", "stable", "library.h")
_COMPILER_BYTES = 1_500_000_000
"""What one nvcc may need: cicc takes up to 1 GB for a unit full of templates."""


def run(request: KernelBuild, report: Callable[[Progress], None]) -> KernelBuildResult:
    """Answer a request to build a pack.

    Raises:
        RecipeError: there is no such op or architecture.
        HostError: nvcc, its host compiler or torch's headers are missing or do not fit.
        ToolError: an op does not compile, or its library would not load everywhere.
    """
    return build_pack(request, report, plugins=shipped_plugins())


def build_pack(
    request: KernelBuild, report: Callable[[Progress], None], *, plugins: Path
) -> KernelBuildResult:
    """The same for the ops of any directory."""
    began = time.monotonic()
    shipped = read_ops(plugins)
    ops = chosen_ops(request.ops, shipped)
    sms = chosen_sms(request.sms, ops)
    nvcc = find_nvcc()
    nvcc.require(sms)
    torch = torch_place()
    plans = [plan_op(op, sms=sms, torch=torch) for op in ops]
    tensorrt = plugin_library(shipped, sms=sms) if request.tensorrt else None
    units = [unit for plan in plans for unit in plan.units] + [*(tensorrt.units if tensorrt else ())]
    with tempfile.TemporaryDirectory(prefix="kernels-", dir=Path.cwd()) as scratch:
        workshop = Workshop(nvcc=nvcc, plugins=plugins, scratch=Path(scratch), jobs=_compilers_at_once())
        results = _compile(workshop, tuple(dict.fromkeys(units)), report)
        report(Progress(phase="link", total=len(plans)))
        built = [_make_op(workshop, plan, results, request.out) for plan in plans]
        if tensorrt:
            tensorrt.link(workshop, {unit: result.file for unit, result in results.items()}, request.out)
    _copy_package(request.out)
    _write_manifest(request.out, built, nvcc=nvcc.version)
    cached = sum(result.cached for result in results.values())
    return KernelBuildResult(
        ops=tuple(op.name for op in ops),
        sms=sms,
        nvcc=nvcc.version,
        compiled=len(results) - cached,
        cached=cached,
        seconds=round(time.monotonic() - began, 3),
    )


def torch_place() -> TorchPlace:
    """Where the installed torch has its headers and libraries.

    Raises:
        HostError: there is no torch, or one without the stable ABI.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        raise HostError(
            "The kernels are bound to torch, and torch is not installed",
            hint="pip install 'bwdeploy[models]'",
        )
    package, version = Path(spec.origin).parent, distribution_version("torch")
    if not (package / "include" / _STABLE_HEADER).is_file():
        raise HostError(
            f"torch {version} has no {_STABLE_HEADER} among its headers",
            hint="Packs use torch's stable ABI: install torch 2.9 or newer",
        )
    return TorchPlace(version=version, include=package / "include", libraries=package / "lib")


def _compile(
    workshop: Workshop, units: Sequence[CompileUnit], report: Callable[[Progress], None]
) -> dict[CompileUnit, CompileResult]:
    cache = user_objects()
    cache.sweep()
    done = 0

    def tell(result: CompileResult) -> None:
        nonlocal done
        done += 1
        report(
            Progress(
                phase="compile",
                done=done,
                total=len(units),
                detail=f"{result.unit.op}/{result.unit.name}{' (cached)' if result.cached else ''}",
            )
        )

    report(Progress(phase="compile", total=len(units), detail=f"nvcc {workshop.nvcc.version}"))
    results = workshop.compile_all(units, cache=cache, on_done=tell)
    return {result.unit: result for result in results}


def _make_op(
    workshop: Workshop, plan: OpPlan, results: Mapping[CompileUnit, CompileResult], out: Path
) -> BuiltOp:
    """Link one op into the pack and put its reference beside it."""
    op = plan.op
    own = [results[unit] for unit in plan.units]
    library, reference = Path("lib", f"{op.name}.so"), Path("reference", f"{op.name}.py")
    for path in (library, reference):
        (out / path).parent.mkdir(exist_ok=True)
    workshop.link([result.file for result in own], out / library, arguments=plan.link)
    shutil.copyfile(op.folder / REFERENCE, out / reference)
    needs = read_shared_library(out / library)
    if problems := unfit(needs):
        raise ToolError(
            f"{library} would not load everywhere: {'; '.join(problems)}",
            hint="See the flags of the link in the log",
        )
    return BuiltOp(
        op=op,
        sms=plan.sms,
        library=library.as_posix(),
        library_sha256=sha256_of(out / library),
        reference=reference.as_posix(),
        reference_sha256=sha256_of(out / reference),
        needs=needs,
        resources=kernel_resources("\n".join(result.output for result in own)),
        sources={name: sha256_of(file) for name, file in source_files(op).items()},
    )


def _copy_package(out: Path) -> None:
    """The Python side, byte for byte, so that what reads the pack is what was built with it."""
    package = Path(bwdeploy_kernels.__file__).parent
    for name, file in content_files(package).items():
        target = out / package.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _write_manifest(out: Path, built: Sequence[BuiltOp], *, nvcc: str) -> None:
    """Last of all, so that a directory with a manifest is a whole pack; read once as its users do."""
    manifest = pack_manifest(
        built, nvcc=nvcc, machine=platform.machine(), measured=read_measured(measured_file())
    )
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
    read_manifest(out)


def _compilers_at_once() -> int:
    """As many as there are CPUs and memory for."""
    return max(1, min(usable_cpus(), available_bytes() // _COMPILER_BYTES))


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return kibibytes * 1024
