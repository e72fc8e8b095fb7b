"""The real quickstart model over three ranks: `pytest -m slow`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.pipeline.jobs import JoinRanks
from bwdeploy.recipe.schema import Calibration, Evaluation
from bwdeploy.worker.ranks.join import run as join
from tests.worker.jobs_in_process import audit_tiny, ignore_progress, quantize_tiny
from tests.worker.ranks.tensor_files import differing, tensors_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_nine_heads_are_cut_in_three_and_audited_like_the_unified_export(
    smollm: Path, tmp_path: Path
) -> None:
    changes = {"format": "nvfp4", "calibration": Calibration(samples=8, seq_len=128, batch_size=4)}
    result = quantize_tiny(smollm, tmp_path / "ranks", **changes, layout="tensorrt_llm", tp=3, pp=2)
    assert result.quant_algo == "NVFP4"
    assert len(list((tmp_path / "ranks").glob("rank*.safetensors"))) == 6
    evaluation = {"format": "nvfp4", "evaluation": Evaluation(samples=4, seq_len=256)}
    report = audit_tiny(tmp_path / "ranks", smollm, layout="tensorrt_llm", **evaluation)
    assert [finding for finding in report.findings if finding.severity != "info"] == []
    assert report.source_perplexity is not None
    assert report.quantized_perplexity is not None
    assert 1 < report.quantized_perplexity / report.source_perplexity < 2
    quantize_tiny(smollm, tmp_path / "unified", **changes)
    request = JoinRanks(checkpoint=tmp_path / "ranks", source=smollm, out=tmp_path / "joined")
    request.out.mkdir()
    join(request, ignore_progress)
    assert differing(tensors_of(tmp_path / "joined"), tensors_of(tmp_path / "unified")) == set()


def test_nine_heads_are_not_cut_in_two(smollm: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="9 attention heads do not divide by tp 2"):
        quantize_tiny(smollm, tmp_path / "out", format="nvfp4", layout="tensorrt_llm", tp=2)
