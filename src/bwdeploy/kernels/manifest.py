"""The manifest of a pack as it is written; `bwdeploy_kernels.manifest` reads it where the pack is loaded.

Also says what of a linked library would keep it from loading in another torch or another container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bwdeploy import __version__
from bwdeploy.kernels.compile_plan import TORCH_STABLE
from bwdeploy.kernels.digests import source_digest
from bwdeploy_kernels.manifest import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bwdeploy.kernels.measured import Measured
    from bwdeploy.kernels.ops import OpDeclaration
    from bwdeploy.kernels.resources import KernelResources
    from bwdeploy.kernels.shared_library import SharedLibrary

TORCH_LIBRARY = "libtorch_cpu.so"

_SYSTEM = frozenset(
    {
        "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1",
        "libstdc++.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
    }
)  # fmt: skip
_DRIVERS = {12: "570", 13: "580"}
"""CUDA release → release of the driver that came with the first nvcc of it that is supported here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltOp:
    """One op of a pack that was just linked."""

    op: OpDeclaration
    sms: tuple[str, ...]
    library: str
    """Path in the pack."""
    library_sha256: str
    reference: str
    reference_sha256: str
    needs: SharedLibrary
    resources: tuple[KernelResources, ...]
    """Of every kernel and architecture."""
    sources: Mapping[str, str]
    """Path below the plugins → SHA-256 of the file."""


def unfit(library: SharedLibrary) -> tuple[str, ...]:
    """Why a library of a pack would not load everywhere, one sentence each."""
    strangers = sorted({name for name in library.needed if name != TORCH_LIBRARY} - _SYSTEM)
    return tuple(_unfit(library, strangers))


def pack_manifest(ops: Sequence[BuiltOp], *, nvcc: str, machine: str, measured: Measured) -> dict[str, Any]:
    """The content of manifest.json.

    Args:
        ops: What the pack holds.
        nvcc: Version of the compiler, whose CUDA runtime is in every library.
        machine: Processor architecture, for example x86_64.
        measured: What is known of these ops; counts where the sources are the same.
    """
    major, minor = nvcc.split(".")[:2]
    return {
        "schema": SCHEMA,
        "bwdeploy": __version__,
        "sms": sorted({sm for built in ops for sm in built.sms}, key=_number),
        "cuda": {
            "nvcc": nvcc,
            "runtime": f"{major}.{minor}",
            "minimum_driver": _DRIVERS.get(int(major), f"for CUDA {major}"),
        },
        "abi": {
            "torch_stable": TORCH_STABLE,
            "machine": machine,
            "glibc": _minor(_highest(ops, "GLIBC")),
            "libstdcxx": _highest(ops, "GLIBCXX"),
        },
        "ops": [_op_json(built, measured) for built in ops],
    }


def _op_json(built: BuiltOp, measured: Measured) -> dict[str, Any]:
    op = built.op
    digest = source_digest(op)
    return {
        "name": op.name,
        "summary": op.summary,
        "quantizes": op.quantizes,
        "replaces": op.replaces,
        "gpus": op.gpus,
        "schemas": op.schemas,
        "library": built.library,
        "library_sha256": built.library_sha256,
        "reference": built.reference,
        "reference_sha256": built.reference_sha256,
        "source_digest": digest,
        "sources": dict(built.sources),
        "architectures": {sm: _architecture(built, sm, digest, measured) for sm in built.sms},
    }


def _architecture(built: BuiltOp, sm: str, digest: str, measured: Measured) -> dict[str, Any]:
    found = measured.at(built.op.name, sm, digest)
    return {
        "status": "measured" if found else "compiled",
        "kernels": [
            {
                "name": one.name,
                "registers": one.registers,
                "shared_bytes": one.shared_bytes,
                "spill_bytes": one.spill_bytes,
                "stack_bytes": one.stack_bytes,
            }
            for one in built.resources
            if one.sm == sm
        ],
        "table": [row.model_dump(mode="json") for row in found.rows] if found else [],
    }


def _unfit(library: SharedLibrary, strangers: list[str]) -> Iterator[str]:
    if TORCH_LIBRARY not in library.needed:
        yield f"NEEDED: got no {TORCH_LIBRARY}, wanted it: python loads torch with local symbols"
    if strangers:
        yield f"NEEDED: got {', '.join(strangers)}, wanted only {TORCH_LIBRARY} and libraries of the system"


def _highest(ops: Sequence[BuiltOp], family: str) -> str:
    """The highest version of symbols of the `family` that a library needs."""
    versions = (built.needs.highest(family) for built in ops)
    return max(versions, key=lambda text: tuple(map(int, text.split("."))))


def _minor(version: str) -> str:
    """Major and minor number alone."""
    return ".".join(version.split(".")[:2])


def _number(sm: str) -> int:
    return int(sm.removeprefix("sm_").rstrip("a"))
