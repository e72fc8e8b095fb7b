"""Training a draft on a CUDA GPU: `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bwdeploy.worker.drafts.modelopt_eagle import attach_draft
from bwdeploy.worker.drafts.sequences import TokenSequence, make_batch
from bwdeploy.worker.drafts.target_model import load_target
from bwdeploy.worker.drafts.unrolling import UnrolledDraft
from tests.worker.drafts.training_jobs import train_tiny, training
from tests.worker.jobs_in_process import quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

pytestmark = pytest.mark.gpu
SEQUENCES = [TokenSequence(tuple(range(5 + n, 60 + n)), ((9, 50),)) for n in range(8)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("target"), num_hidden_layers=4)


def unrolled(target: Path, device: str) -> UnrolledDraft:
    model: Any = load_target(target, device=device, trust_remote_code=False)
    return UnrolledDraft(attach_draft(model, training(), None), 3)


def test_a_draft_trains_and_its_loss_falls(target: Path, tmp_path: Path) -> None:
    result = train_tiny(target, tmp_path, device="cuda", steps=60, evaluate_every=20)
    losses = [point.loss for point in result.curve.points if point.loss is not None]
    assert losses[-1] < losses[0]
    assert result.peak_gpu_memory_bytes > 0
    assert result.device == torch.cuda.get_device_name()
    assert load_file(tmp_path / "out" / "model.safetensors")["fc.weight"].dtype == torch.bfloat16


def test_the_loss_is_that_of_the_cpu(target: Path) -> None:
    batch = make_batch(SEQUENCES, steps=3, decay=0.9)
    on_gpu = unrolled(target, "cuda")(batch.to("cuda")).item()
    on_cpu = unrolled(target, "cpu")(batch).item()
    assert on_gpu == pytest.approx(on_cpu, rel=0.03)  # bf16 there, float32 here


@pytest.mark.parametrize("rounded", [False, True])
def test_a_step_never_waits_for_the_gpu(target: Path, tmp_path: Path, *, rounded: bool) -> None:
    if rounded:
        quantize_tiny(target, tmp_path / "nvfp4", format="nvfp4", device="cuda")
    draft = unrolled(tmp_path / "nvfp4" if rounded else target, "cuda")
    batch = make_batch(SEQUENCES, steps=3, decay=0.9)
    draft(batch.to("cuda")).backward()  # masks and handles are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        draft(batch.to("cuda")).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
