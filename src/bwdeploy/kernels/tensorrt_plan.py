"""How the TensorRT plugin library of a pack is made: the kernels' own objects, four host sources, one link.

Only TensorRT's headers are needed: the link takes a stand-in for libnvinfer of the same soname, and the
loader finds the real one. `plugins/tensorrt/CMakeLists.txt` does the same by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bwdeploy.errors import HostError
from bwdeploy.kernels.compile_plan import LINKER_FLAGS, CompileUnit, device_units, host_unit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bwdeploy.kernels.ops import OpDeclaration

FOLDER = "tensorrt"
"""Below the plugins."""

OPS = ("add_rmsnorm_quant_fp8", "add_rmsnorm_quant_nvfp4", "silu_mul_quant_fp8", "silu_mul_quant_nvfp4")
"""What the library holds, whatever else is in the pack."""
_SOURCES = ("op_plugin.cpp", "add_rmsnorm_quant.cpp", "silu_mul_quant.cpp", "registration.cpp")
_STAND_IN = "link_stub.cpp"
_LINKER_FLAGS = (*LINKER_FLAGS, "-z,nodelete")
"""TensorRT keeps references to the creators, so the library must not be unmapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtPlace:
    """Headers of TensorRT."""

    version: str
    """For example `10.14.1`."""
    include: Path

    @property
    def soname(self) -> str:
        """Of the library that these headers belong to."""
        return f"libnvinfer.so.{self.version.partition('.')[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtPlan:
    """Everything that makes the plugin library."""

    units: tuple[CompileUnit, ...]
    stand_in: CompileUnit
    stand_in_link: tuple[str, ...]
    link: tuple[str, ...]
    """Arguments after program and objects, without the stand-in and the output."""


def plan_tensorrt(
    ops: Mapping[str, OpDeclaration], *, sms: tuple[str, ...], place: TensorRtPlace
) -> TensorRtPlan:
    """The command lines for the plugin library, for those of `sms` that its ops declare.

    Raises:
        HostError: an op that the library is made of is not there.
    """
    missing = [name for name in OPS if name not in ops]
    if missing:
        raise HostError(
            f"the TensorRT plugins need the ops {', '.join(missing)}, which are not there",
            hint="Install bwdeploy again, or unset TENSORRT_ROOT",
        )
    kernels = [unit for name in OPS for unit in device_units(ops[name], sms=sms)]
    return TensorRtPlan(
        units=(*kernels, *(_host(name, place) for name in _SOURCES)),
        stand_in=_host(_STAND_IN, place, flags=("-Xcompiler=-fvisibility=default",)),
        stand_in_link=("-shared", "-cudart=none", "--no-device-link", f"-Xlinker=-soname,{place.soname}"),
        link=("-shared", "-cudart=static", "--no-device-link", f"-Xlinker={','.join(_LINKER_FLAGS)}"),
    )


def _host(name: str, place: TensorRtPlace, *, flags: tuple[str, ...] = ()) -> CompileUnit:
    return host_unit(
        FOLDER,
        name,
        include=place.include,
        prefix="TensorRT",
        depends_on=f"TensorRT {place.version}",
        flags=flags,
    )
