"""Stage `kernels`: the fused kernels that the recipe names, as one pack for the GPU that will serve."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - part of the public signatures
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Step, Work
    from bwdeploy.recipe.schema import Recipe


class KernelsStage:
    """Compiles the pack, when the recipe names kernels."""

    name = "kernels"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        if not recipe.kernels:
            return None
        from bwdeploy.stages.kernel_pack import pack_step  # noqa: PLC0415 - few recipes name kernels

        return pack_step(recipe, host)

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        from bwdeploy.stages.kernel_pack import build_pack  # noqa: PLC0415 - few recipes name kernels

        build_pack(work)

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        from bwdeploy.stages.kernel_pack import verify_pack  # noqa: PLC0415 - few recipes name kernels

        verify_pack(out)

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`; a pack has no limits."""
