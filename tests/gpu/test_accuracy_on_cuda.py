"""The paired comparison on a CUDA GPU beside the CPU's own: `pytest -m gpu`."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from bwdeploy.recipe.schema import Evaluation, GateTask
from tests.worker.accuracy.local_tasks import CHOICE, GENERATION, choices, texts, write_task
from tests.worker.jobs_in_process import compare_tiny, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.gpu
EVALUATION = Evaluation(samples=16, seq_len=128)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def checkpoint(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "nvfp4"
    quantize_tiny(source, out, format="nvfp4", device="cuda")
    return out


def mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def test_text_is_compared_as_on_the_cpu(
    source: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    on_gpu = compare_tiny(checkpoint, source, evaluation=EVALUATION, device="cuda").text
    on_cpu = compare_tiny(checkpoint, source, evaluation=EVALUATION).text
    assert on_gpu is not None
    assert on_cpu is not None
    # bf16 on the GPU, float32 on the CPU
    likelihoods = on_gpu.negative_log_likelihood
    assert likelihoods.source == pytest.approx(on_cpu.negative_log_likelihood.source, rel=0.02)
    # A value that bf16 moves over the edge of an FP4 code is rounded a whole step away: 1.1 % on a CPU.
    assert likelihoods.checkpoint == pytest.approx(on_cpu.negative_log_likelihood.checkpoint, rel=0.04)
    assert mean(on_gpu.kl_divergence) == pytest.approx(mean(on_cpu.kl_divergence), rel=0.25)
    assert mean(on_gpu.top1_agreement) == pytest.approx(mean(on_cpu.top1_agreement), abs=0.05)


def test_memory_of_the_gpu_is_given_back(
    source: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compare_tiny(checkpoint, source, device="cuda")  # libraries keep workspaces from their first use on
    gc.collect()  # the last model's modules hold reference cycles
    before = torch.cuda.memory_allocated()
    compare_tiny(checkpoint, source, device="cuda")
    gc.collect()
    assert torch.cuda.memory_allocated() <= before


def test_tasks_are_answered_on_the_gpu(
    source: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval", reason="the extra `accuracy` is not installed")
    monkeypatch.chdir(tmp_path)
    tasks = (
        GateTask(task=write_task(tmp_path / "a", CHOICE, choices(20))),
        GateTask(task=write_task(tmp_path / "b", GENERATION, texts(["x"] * 5))),
    )
    report = compare_tiny(checkpoint, source, tasks=tasks, device="cuda")
    assert [len(task.scores.checkpoint) for task in report.tasks] == [20, 5]
