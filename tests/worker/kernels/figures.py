"""Results of a benchmark as tests need them."""

from __future__ import annotations

from typing import Any

from bwdeploy.pipeline.kernel_jobs import KernelBenchResult, KernelFigure


def a_figure(microseconds: float, *, rows: int = 8, width: int = 5120, **fields: Any) -> KernelFigure:
    content: dict[str, Any] = {
        "op": "add_rmsnorm_quant_fp8",
        "variant": "fp8 static",
        "rows": rows,
        "width": width,
        "microseconds": microseconds,
        "p10": microseconds - 0.1,
        "p90": microseconds + 0.1,
        "baselines": {"torch.compile": 3.0},
    }
    return KernelFigure(**content | fields)


def a_bench_result(*figures: KernelFigure) -> KernelBenchResult:
    return KernelBenchResult(
        sm="sm_90a",
        machine={"gpu": "NVIDIA H100 80GB HBM3", "driver": "580.1", "cuda": "13.0", "torch": "2.11.0"},
        copy_gb_per_s={"cudaMemcpyAsync (torch copy_)": 2430.0},
        source_digests={"add_rmsnorm_quant_fp8": "a" * 64},
        figures=figures,
        left_out={"flashinfer-python": "not installed"},
        seconds={"measure": 1.0},
    )
