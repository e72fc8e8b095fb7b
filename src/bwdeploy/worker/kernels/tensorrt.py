"""Link the TensorRT plugin library into a pack, where TensorRT's headers are: $TENSORRT_ROOT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.kernels.tensorrt_plan import TensorRtPlace, TensorRtPlan, plan_tensorrt
from bwdeploy.tools.tensorrt_headers import find_tensorrt
from bwdeploy_kernels.tensorrt_plugins import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bwdeploy.kernels.compile_plan import CompileUnit
    from bwdeploy.kernels.ops import OpDeclaration
    from bwdeploy.tools.nvcc_compile import Workshop


class PluginLibrary:
    """The plugin library of one build."""

    def __init__(self, plan: TensorRtPlan, place: TensorRtPlace) -> None:
        self._plan = plan
        self._place = place

    @property
    def units(self) -> tuple[CompileUnit, ...]:
        """What has to be compiled for it."""
        return (*self._plan.units, self._plan.stand_in)

    def link(self, workshop: Workshop, objects: Mapping[CompileUnit, Path], out: Path) -> None:
        """Write the library into the pack `out`.

        Raises:
            ToolError: the linker refuses.
        """
        target, stand_in = out / LIBRARY, workshop.scratch / self._place.soname
        target.parent.mkdir(exist_ok=True)
        workshop.link_plain([objects[self._plan.stand_in]], stand_in, arguments=self._plan.stand_in_link)
        arguments = (*self._plan.link, f"-L{workshop.scratch}", f"-l:{self._place.soname}")
        workshop.link([objects[unit] for unit in self._plan.units], target, arguments=arguments)


def plugin_library(ops: Mapping[str, OpDeclaration], *, sms: tuple[str, ...]) -> PluginLibrary:
    """The plugin library that a pack for `sms` gets.

    Raises:
        HostError: TENSORRT_ROOT names no headers, or an op that the library holds is not there.
    """
    place = find_tensorrt()
    return PluginLibrary(plan_tensorrt(ops, sms=sms, place=place), place)
