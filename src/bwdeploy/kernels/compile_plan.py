"""From op declarations to compiler command lines: pure, so that a plan can be read and tested without nvcc.

A unit becomes one object with the code of every architecture, because its host code can exist only once in a
library; the binding is compiled by the host compiler through nvcc, which adds CUDA's headers. All run in the
directory of the plugins with relative paths, so that messages name no path of this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bwdeploy.kernels.ops import BINDING

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.kernels.ops import OpDeclaration, Unit

TORCH_STABLE = "2.9"
"""Oldest torch whose stable ABI a pack needs; torch keeps it for two years."""
_TORCH_TARGET = "0x0209000000000000"

_PLACE = ("-I.",)
_HOST_CODE = "-fPIC,-fvisibility=hidden,-fvisibility-inlines-hidden"
_DEVICE_FLAGS = (
    "-O3",
    "-std=c++17",
    "-lineinfo",
    "--resource-usage",
    "--compress-mode=size",  # a fifth of the bytes; the driver unpacks a library once
    f"-Xcompiler={_HOST_CODE}",
)
LINKER_FLAGS = (
    "--as-needed",
    # A process may hold two libraries of one op (a pack's and the plugins'): each calls its own.
    "-Bsymbolic",
    "--gc-sections",
    "-z,defs",
    "-z,now",
    "-z,noexecstack",
    # <iostream> of g++ 13 and newer names this symbol, which older libstdc++ lack and nothing here calls.
    "--defsym=_ZSt21ios_base_library_initv=0",
)
EXPORTS = "{ global: bwdeploy_*; local: *; };\n"
"""Version script of the linker: only entry points for C are visible, not CUDA's runtime in each library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchPlace:
    """Headers and libraries of an installed torch."""

    version: str
    include: Path
    libraries: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileUnit:
    """One call of nvcc that makes an object file."""

    op: str
    name: str
    """Within the op, for people and files, for example `kernel.cu-2`."""
    source: str
    """Path below the directory of the plugins, which is where the command runs."""
    flags: tuple[str, ...]
    depends_on: str = ""
    """Version of what it includes from outside, beyond the compilers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpPlan:
    """Everything that makes the library of one op."""

    op: OpDeclaration
    sms: tuple[str, ...]
    units: tuple[CompileUnit, ...]
    link: tuple[str, ...]
    """Arguments after program and objects, without the version script and the output."""


def plan_op(op: OpDeclaration, *, sms: tuple[str, ...], torch: TorchPlace) -> OpPlan:
    """The command lines for one op, for those of `sms` that it declares."""
    binding = host_unit(
        op.name,
        BINDING,
        include=torch.include,
        prefix="torch",
        depends_on=f"torch {torch.version}",
        flags=(f"-DTORCH_TARGET_VERSION={_TORCH_TARGET}", "-DUSE_CUDA"),
    )
    return OpPlan(
        op=op,
        sms=tuple(sm for sm in op.sms if sm in sms),
        units=(*device_units(op, sms=sms), binding),
        link=_link_arguments(torch.libraries),
    )


def device_units(op: OpDeclaration, *, sms: tuple[str, ...]) -> tuple[CompileUnit, ...]:
    """The units of an op with kernels, for those of `sms` that it declares."""
    wanted = tuple(sm for sm in op.sms if sm in sms)
    return tuple(_device_unit(op, unit, index, wanted) for index, unit in enumerate(op.units, start=1))


def host_unit(
    folder: str,
    name: str,
    *,
    include: Path,
    prefix: str,
    depends_on: str,
    flags: tuple[str, ...] = (),
) -> CompileUnit:
    """A unit of plain C++.

    Args:
        folder: Below the plugins.
        name: File in it.
        include: Headers from outside.
        prefix: What messages call the directory of these headers.
        depends_on: What these headers are, with the version.
        flags: More arguments.
    """
    return CompileUnit(
        op=folder,
        name=name,
        source=f"{folder}/{name}",
        flags=(
            "-c",
            "-x=c++",
            "-O2",
            "-std=c++17",
            f"-Xcompiler={_HOST_CODE},-Wall,-ffile-prefix-map={include}={prefix}",
            *flags,
            *_PLACE,
            f"-isystem={include}",
        ),
        depends_on=depends_on,
    )


def _device_unit(op: OpDeclaration, unit: Unit, index: int, sms: tuple[str, ...]) -> CompileUnit:
    return CompileUnit(
        op=op.name,
        name=f"{unit.source}-{index}",
        source=f"{op.name}/{unit.source}",
        flags=(
            "-c",
            *_DEVICE_FLAGS,
            *(f"-gencode=arch=compute_{_number(sm)},code={sm}" for sm in sms),
            *_PLACE,
            *(f"-D{name}={text}" for name, text in unit.defines.items()),
        ),
    )


def _link_arguments(libraries: Path) -> tuple[str, ...]:
    return (
        "-shared",
        "-cudart=static",
        "--no-device-link",
        f"-Xlinker={','.join(LINKER_FLAGS)}",
        f"-L{libraries}",
        "-ltorch_cpu",
    )


def _number(sm: str) -> str:
    return sm.removeprefix("sm_")
