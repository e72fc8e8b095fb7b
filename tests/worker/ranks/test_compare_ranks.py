"""A checkpoint of ranks beside its source: joined for the time being, then compared as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.worker.jobs_in_process import compare_tiny
from tests.worker.ranks.tiny_models import Made

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.ranks.conftest import Cuts, Sources


def test_unquantized_ranks_agree_wholly_with_their_source(
    cut: Cuts, source_of: Sources, scratch: Path
) -> None:
    ranks, source = cut(Made("llama_biases", tp=2, pp=2)), source_of("llama_biases")
    report = compare_tiny(ranks, source, layout="tensorrt_llm")
    assert report.text is not None
    assert set(report.text.kl_divergence) == {0.0}
    assert "join" in report.seconds
    assert list(scratch.iterdir()) == []
