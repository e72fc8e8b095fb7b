"""What stage `kernels` does when a recipe names kernels; apart from it, because most recipes name none.

The pack is compiled in the worker, because the binding needs torch's headers; no GPU is needed. Without
`layout.gpu` it is compiled for every architecture that all of the named ops have.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bwdeploy_kernels
from bwdeploy.errors import ToolError
from bwdeploy.facts.gpus import find_gpu
from bwdeploy.kernels import tensorrt_plan
from bwdeploy.kernels.ops import shipped_ops
from bwdeploy.pipeline.jobs import ProgramNeed
from bwdeploy.pipeline.kernel_jobs import KernelBuild
from bwdeploy.pipeline.stage import Step
from bwdeploy.places import shipped_plugins
from bwdeploy.tools import tensorrt_headers
from bwdeploy.tools.nvcc import NVCC, installed_identity
from bwdeploy_kernels.errors import PackError
from bwdeploy_kernels.manifest import read_manifest

if TYPE_CHECKING:
    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

_PACKAGE = Path(bwdeploy_kernels.__file__).parent


def pack_step(recipe: Recipe, host: Host) -> Step:
    """The build on `host` of the pack that `recipe` means."""
    sms = target_sms(recipe)
    params: dict[str, Any] = {
        "ops": list(recipe.kernels),
        "sms": list(sms),
        "compiler": list(installed_identity()),
        "machine": host.machine,
    }
    if recipe.builds_engine:
        params["tensorrt"] = tensorrt_headers.installed_version()
    return Step(
        params=params,
        sources=_sources(recipe),
        tools=("torch",),
        program=ProgramNeed(program=NVCC, tensorrt_llm="", gpus=0),
        command=f"nvcc: {', '.join(recipe.kernels)} for {', '.join(sms)}",
    )


def build_pack(work: Work) -> None:
    """Compile the pack into `work.out`."""
    params = work.step.params
    work.run(KernelBuild(ops=params["ops"], sms=params["sms"], tensorrt="tensorrt" in params, out=work.out))


def verify_pack(out: Path) -> None:
    """Look at a pack once more before it is published.

    Raises:
        ToolError: the manifest cannot be read, or a library is missing.
    """
    try:
        manifest = read_manifest(out)
    except PackError as error:
        raise ToolError(f"the pack is not whole: {error}", hint="Report this as a bug of bwdeploy") from error
    missing = [str(op.library) for op in manifest.ops if not (out / op.library).is_file()]
    if missing:
        raise ToolError(f"the pack lacks {', '.join(missing)}", hint="Report this as a bug of bwdeploy")


def _sources(recipe: Recipe) -> dict[str, Path]:
    """Everything that is compiled or copied; the library for engines has its ops whatever is named."""
    plugins, folders = shipped_plugins(), {"common", "measured.json", *recipe.kernels}
    if recipe.builds_engine:
        folders |= {tensorrt_plan.FOLDER, *tensorrt_plan.OPS}
    return {"package": _PACKAGE, **{name: plugins / name for name in sorted(folders)}}


def target_sms(recipe: Recipe) -> tuple[str, ...]:
    """The architectures that the pack of `recipe` is compiled for, for example `sm_100a`."""
    gpu = find_gpu(recipe.layout.gpu) if recipe.layout.gpu else None
    if gpu is not None:
        return (f"sm_{gpu.sm}a",)
    ops = shipped_ops()
    common = set.intersection(*(set(ops[name].sms) for name in recipe.kernels))
    return tuple(sm for sm in ops[recipe.kernels[0]].sms if sm in common)
