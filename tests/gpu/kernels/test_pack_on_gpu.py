"""A pack as the real builder makes it, on the GPU: `pytest -m gpu tests/gpu/kernels`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.kernel_jobs import KernelBench, KernelTest
from bwdeploy.report.kernels import test_text as shown
from bwdeploy.worker.kernels.bench import run as run_bench
from bwdeploy.worker.kernels.loading import load_for_job
from bwdeploy.worker.kernels.outputs import OUTPUTS
from bwdeploy.worker.kernels.points import VARIANTS
from bwdeploy.worker.kernels.test import run as run_test

pytestmark = pytest.mark.gpu


def ignore(_progress: Progress) -> None:
    """A progress callback that does nothing."""


def test_every_op_agrees_with_its_reference_and_counts_its_launches(built_pack: Path) -> None:
    result = run_test(KernelTest(pack=built_pack, ops=(), device="cuda"), ignore)
    assert [case for case in result.cases if case.status == "failed"] == [], shown(result)
    assert {case.op for case in result.cases if case.status == "passed"} == set(OUTPUTS)
    assert all(result.calls[op] > 100 for op in OUTPUTS)


def test_a_quick_run_of_the_benchmark_measures_every_variant(built_pack: Path) -> None:
    result = run_bench(KernelBench(pack=built_pack, ops=(), quick=True), ignore)
    assert {(figure.op, figure.variant) for figure in result.figures} == {
        (op, variant) for op, variants in VARIANTS.items() for variant in variants
    }
    assert all(0 < figure.p10 <= figure.microseconds <= figure.p90 for figure in result.figures)
    assert max(result.copy_gb_per_s.values()) > 100
    assert set(result.source_digests) >= set(VARIANTS)


def test_a_pack_for_another_gpu_is_refused_by_name_before_anything_is_loaded(
    built_pack: Path, tmp_path: Path
) -> None:
    manifest = json.loads((built_pack / "manifest.json").read_text(encoding="utf-8"))
    manifest["sms"] = ["sm_120a"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(HostError, match=r"GPU architecture: got sm_\d+a .*, wanted one of sm_120a"):
        load_for_job(tmp_path, device="cuda", ops=())
