"""The kernel packs on this machine's GPU, beside FlashInfer, torch.compile and a plain copy.

    python -m benchmarks.kernels [PACK] [--quick] [--commit NAME]

Builds a pack of every op for this GPU (or takes PACK), runs the bench job, writes
results/kernels_<gpu>.json, and renews plugins/measured.json and the tables of plugins/README.md.
`--commit` names sources that were copied here without their history. The op for several GPUs has
benchmarks/allreduce_kernels.py.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import kernel_tables
from benchmarks.results import machine, write_result
from bwdeploy.kernels.ops import shipped_ops
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.kernel_jobs import KernelBench, KernelBenchResult, KernelBuild
from bwdeploy.report.kernels import bench_text
from bwdeploy.tools.executors import local_executor
from bwdeploy.tools.nvidia_smi import compute_capability

COMMAND = "python -m benchmarks.kernels"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        pack = options.pack or _built(Path(scratch))
        request = KernelBench(pack=pack, ops=(), quick=options.quick)
        result = _run(request, Path(scratch))
    if not options.quick:
        name = f"kernels_{_file_name(result.machine['gpu'])}"
        write_result(name, _measured(result, options.commit), command=COMMAND, commit=options.commit)
        kernel_tables.main()
    print(bench_text(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--commit", default="")
    return parser.parse_args()


def _built(scratch: Path) -> Path:
    out = scratch / "pack"
    out.mkdir()
    ops = tuple(name for name, op in shipped_ops().items() if 1 in op.gpus)
    built = _run(KernelBuild(ops=ops, sms=(f"sm_{compute_capability()}a",), out=out), scratch)
    print(f"built {len(built.ops)} ops in {built.seconds:.0f} s")
    return out


def _run(request: Any, scratch: Path) -> Any:
    log = scratch / "log"
    try:
        return local_executor().run(request, log=log, scratch=scratch, on_progress=_said)
    except Exception:
        print(log.read_text(errors="replace")[-3000:])
        raise


def _said(progress: Progress) -> None:
    if not progress.done:
        print(f"{progress.phase} {progress.detail}", flush=True)


def _measured(result: KernelBenchResult, commit: str) -> dict[str, Any]:
    found = result.machine
    return {
        "sm": result.sm,
        **{key: found.get(key, "unknown") for key in ("gpu", "driver", "cuda", "torch", "flashinfer")},
        "commit": commit or machine()["commit"],
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "state": {key: value for key, value in found.items() if key.startswith(("before", "after"))},
        "sources": result.source_digests,
        "copy_gb_per_s": result.copy_gb_per_s,
        "left_out": result.left_out,
        "seconds": result.seconds,
        "rows": [figure.model_dump(mode="json") for figure in result.figures],
    }


def _file_name(gpu: str) -> str:
    """`NVIDIA H100 80GB HBM3` → `h100`."""
    words = re.findall(r"[a-z0-9]+", gpu.lower().removeprefix("nvidia"))
    return words[0] if words else "gpu"


if __name__ == "__main__":
    main()
