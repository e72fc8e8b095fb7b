"""The verb about fused kernels: kernels list, build, test, bench."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bwdeploy.cli.arguments import AsJson, ExecutorFile, ExecutorName
from bwdeploy.cli.output import print_json
from bwdeploy.errors import GateError, HostError, argument_error

if TYPE_CHECKING:
    from bwdeploy.pipeline.jobs import Executor, JobRequest, ResultT

PackPath = Annotated[
    Path, typer.Argument(metavar="PACK", help="A directory of `bwdeploy kernels build`.", show_default=False)
]
PackOps = Annotated[
    list[str] | None,
    typer.Argument(metavar="OP", help="Ops of the pack.", show_default="all of the pack"),
]

kernels = typer.Typer(help="Fused CUDA kernels: list the ops, build packs of them, test and measure a pack.")
_STAGE = "kernels"


@kernels.command("list")
def list_ops(*, as_json: AsJson = False) -> None:
    """List the ops: what each fuses, and for which architectures it is only compiled or also measured."""
    from bwdeploy.kernels.measured import measured_file, read_measured
    from bwdeploy.kernels.ops import shipped_ops
    from bwdeploy.report.kernel_ops import ops_json, ops_text

    ops, measured = shipped_ops().values(), read_measured(measured_file())
    if as_json:
        print_json(ops_json(ops, measured))
    else:
        typer.echo(ops_text(ops, measured))


@kernels.command("build")
def build_pack(
    ops: Annotated[
        list[str] | None,
        typer.Argument(metavar="OP", help="Ops to put into the pack.", show_default="all"),
    ] = None,
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.", show_default=False)],
    arch: Annotated[
        str,
        typer.Option(
            metavar="SM,…", help="Architectures, for example sm_90a,sm_100a.", show_default="all of each op"
        ),
    ] = "",
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    as_json: AsJson = False,
) -> None:
    """Compile ops into a pack; needs nvcc and torch, no GPU. What was compiled is kept.

    Where $TENSORRT_ROOT names TensorRT's headers, the pack gets the TensorRT plugins too.
    """
    from bwdeploy.build import open_store
    from bwdeploy.kernels.ops import shipped_ops
    from bwdeploy.kernels.selection import chosen_ops, chosen_sms
    from bwdeploy.pipeline.kernel_jobs import KernelBuild, KernelBuildResult
    from bwdeploy.pipeline.pack_output import publish_pack
    from bwdeploy.report.build_progress import build_display
    from bwdeploy.tools.executors import open_executor
    from bwdeploy.tools.tensorrt_headers import VARIABLE

    shipped = shipped_ops()
    if str(out) in shipped and not out.exists():
        words = " ".join((*(ops or ()), str(out)))
        raise argument_error(f"OUT: {out} is the name of an op", f"name a directory: build {words} DIR")
    chosen = chosen_ops(ops or (), shipped)
    sms = chosen_sms([sm.strip() for sm in arch.split(",") if sm.strip()], chosen)
    runner = open_executor(executor, file=executor_file)
    with build_display() as display:
        display.started(_STAGE)

        def make(directory: Path, scratch: Path) -> KernelBuildResult:
            return runner.run(
                KernelBuild(
                    ops=tuple(op.name for op in chosen),
                    sms=sms,
                    out=directory,
                    tensorrt=bool(os.environ.get(VARIABLE)),
                ),
                log=open_store().log_path(_STAGE, "build"),
                scratch=scratch,
                on_progress=lambda progress: display.progressed(_STAGE, progress),
            )

        result = publish_pack(out, make)
    if as_json:
        print_json({"ok": True, "out": str(out), **result.model_dump(mode="json")})
    else:
        typer.echo(
            f"{out}: {', '.join(result.ops)} for {', '.join(result.sms)}, nvcc {result.nvcc}, "
            f"{result.compiled} objects compiled, {result.cached} from the cache, {result.seconds:.1f} s"
        )


@kernels.command("test")
def compare_pack(
    pack: PackPath,
    ops: PackOps = None,
    *,
    device: Annotated[
        Literal["cuda", "cpu"] | None,
        typer.Option(help="Run the kernels, or their references alone.", show_default="cuda with a GPU"),
    ] = None,
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    as_json: AsJson = False,
) -> None:
    """Load a pack as a serving process does, compare every op with its reference; exit 6 when one differs."""
    from bwdeploy.pipeline.host import probe_host
    from bwdeploy.pipeline.kernel_jobs import KernelTest
    from bwdeploy.report.kernels import test_problem, test_text
    from bwdeploy.tools.executors import open_executor

    _require_pack(pack, ops or [])
    runner = open_executor(executor, file=executor_file)
    chosen = device or probe_host(device=runner.device).device
    request = KernelTest(pack=pack.resolve(), ops=tuple(ops or ()), device=chosen)
    result = _run_job(runner, request, "test")
    problem = test_problem(result)
    if as_json:
        print_json({"ok": not problem, **result.model_dump(mode="json")})
        raise typer.Exit(GateError.exit_code if problem else 0)
    typer.echo(test_text(result))
    if problem:
        raise GateError(
            problem, hint="Build the pack again; a fresh one that fails on this GPU should not be served"
        )


@kernels.command("bench")
def measure_pack(
    pack: PackPath,
    ops: PackOps = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few points, no compiled baselines: whether it runs.")
    ] = False,
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure the ops of a pack on a GPU beside FlashInfer, torch.compile and a plain copy."""
    from bwdeploy.pipeline.kernel_jobs import KernelBench
    from bwdeploy.report.kernels import bench_text
    from bwdeploy.tools.executors import open_executor

    _require_pack(pack, ops or [])
    request = KernelBench(pack=pack.resolve(), ops=tuple(ops or ()), quick=quick)
    result = _run_job(open_executor(executor, file=executor_file), request, "bench")
    if as_json:
        print_json({"ok": True, **result.model_dump(mode="json")})
    else:
        typer.echo(bench_text(result))


def _run_job(runner: Executor, request: JobRequest[ResultT], name: str) -> ResultT:
    from tempfile import TemporaryDirectory

    from bwdeploy.build import open_store
    from bwdeploy.report.build_progress import build_display

    with build_display() as display, TemporaryDirectory(prefix="bwdeploy-") as scratch:
        display.started(_STAGE)
        return runner.run(
            request,
            log=open_store().log_path(_STAGE, name),
            scratch=Path(scratch),
            on_progress=lambda progress: display.progressed(_STAGE, progress),
        )


def _require_pack(pack: Path, ops: list[str]) -> None:
    """Refuse what is no pack, and names that it does not have, before a process is started for it."""
    from bwdeploy_kernels.errors import PackError
    from bwdeploy_kernels.manifest import read_manifest

    try:
        manifest = read_manifest(pack)
    except PackError as error:
        raise HostError(str(error)) from error
    names = [op.name for op in manifest.ops]
    for op in ops:
        if op not in names:
            raise argument_error(f"OP: the pack has no op {op!r}", f"its ops are {', '.join(names)}")
