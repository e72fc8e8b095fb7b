"""The same jobs on a CUDA GPU: `pytest -m gpu`. Measured beside the CPU's own result in the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.reference import ReferenceEngine
from tests.runtime.answering import Answering
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def checkpoint(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "nvfp4"
    result = quantize_tiny(source, out, format="nvfp4", device="cuda")
    assert result.quant_algo == "NVFP4"
    assert result.peak_gpu_memory_bytes > 0
    assert result.device == torch.cuda.get_device_name()
    return out


def test_audit_on_the_gpu_finds_nothing_and_agrees_with_the_cpu(source: Path, checkpoint: Path) -> None:
    on_gpu = audit_tiny(checkpoint, source, format="nvfp4", device="cuda")
    on_cpu = audit_tiny(checkpoint, source, format="nvfp4", device="cpu")
    assert [finding for finding in on_gpu.findings if finding.severity == "error"] == []
    # bf16 on the GPU, float32 on the CPU
    assert on_gpu.quantized_perplexity == pytest.approx(on_cpu.quantized_perplexity, rel=0.05)
    assert on_gpu.worst_tensors[0].relative_error == pytest.approx(
        on_cpu.worst_tensors[0].relative_error, rel=1e-3
    )


def test_weights_quantized_on_the_gpu_are_those_of_the_cpu(
    source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    quantize_tiny(source, tmp_path / "cpu", format="nvfp4")
    on_cpu = audit_tiny(tmp_path / "cpu", source, format="nvfp4")
    on_gpu = audit_tiny(checkpoint, source, format="nvfp4")
    assert on_gpu.bits_per_parameter == on_cpu.bits_per_parameter
    assert on_gpu.worst_tensors[0].relative_error == pytest.approx(
        on_cpu.worst_tensors[0].relative_error, rel=1e-2
    )


def test_reference_engine_answers_several_at_once_on_the_gpu(checkpoint: Path) -> None:
    settings = EngineConfig(runtime="reference", checkpoint=".", max_seq_len=100)
    engine = ReferenceEngine()
    info = engine.load(settings, checkpoint, wake=lambda: None)
    assert info.device == torch.cuda.get_device_name()
    with Answering(engine, settings) as answering:
        ids = [answering.begin(f"the quick brown fox {number}", max_tokens=12) for number in range(4)]
        answers = [answering.wait(request) for request in ids]
    assert [answer.tokens for answer in answers] == [12] * 4


@pytest.mark.parametrize("layout_format", ["nvfp4", "fp8"])
def test_ranks_cut_on_the_gpu_join_and_audit_as_on_the_cpu(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout_format: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the audit joins the ranks in the job's own directory
    ranks = {"format": layout_format, "layout": "tensorrt_llm", "tp": 2, "pp": 2}
    quantize_tiny(source, tmp_path / "gpu", device="cuda", **ranks)
    quantize_tiny(source, tmp_path / "cpu", **ranks)
    assert {path.name for path in (tmp_path / "gpu").glob("rank*")} == {
        f"rank{rank}.safetensors" for rank in range(4)
    }
    audited = {"format": layout_format, "layout": "tensorrt_llm"}
    on_gpu = audit_tiny(tmp_path / "gpu", source, device="cuda", **audited)
    on_cpu = audit_tiny(tmp_path / "gpu", source, **audited)
    of_cpu = audit_tiny(tmp_path / "cpu", source, **audited)
    assert [finding for finding in on_gpu.findings if finding.severity == "error"] == []
    assert on_gpu.quantized_perplexity == pytest.approx(on_cpu.quantized_perplexity, rel=0.05)
    assert on_cpu.bits_per_parameter == of_cpu.bits_per_parameter
    assert on_cpu.worst_tensors[0].relative_error == pytest.approx(
        of_cpu.worst_tensors[0].relative_error, rel=1e-2
    )
