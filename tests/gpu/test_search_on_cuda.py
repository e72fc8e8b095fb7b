"""The search for formats on a CUDA GPU: `pytest -m gpu`, beside the CPU's own result in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bwdeploy.recipe.schema import FormatSearch
from tests.worker.jobs_in_process import audit_tiny
from tests.worker.tiny_llama import make_tiny_llama
from tests.worker.training.searches import BUDGET, search_tiny

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("scoring", ["gradient", "kl_div"])
def test_search_on_the_gpu_keeps_the_budget_and_ranks_layers_as_the_cpu_does(
    scoring: str, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    source = make_tiny_llama(tmp_path / "source")
    search = FormatSearch.model_validate({"effective_bits": BUDGET, "score_batches": 2, "scoring": scoring})
    on_gpu = search_tiny(source, tmp_path / "gpu", search=search, device="cuda")
    on_cpu = search_tiny(source, tmp_path / "cpu", search=search)
    assert on_gpu.result.effective_bits is not None
    assert 4.5 < on_gpu.result.effective_bits <= BUDGET
    assert on_gpu.result.peak_gpu_memory_bytes > 0
    report = audit_tiny(on_gpu.out, source, device="cuda")
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    assert report.quant_algo == "MIXED_PRECISION"
    for here, there in zip(on_gpu.result.sensitivity, on_cpu.result.sensitivity, strict=True):
        # bf16 on the GPU, float32 on the CPU; the scores of the layers differ by more than a hundred times
        assert here.modules == there.modules
        assert here.scores["nvfp4"] == pytest.approx(there.scores["nvfp4"], rel=0.5)
