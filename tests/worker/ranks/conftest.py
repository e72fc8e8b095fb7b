"""Sources and checkpoints of the rank tests, each made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.pipeline.jobs import ExportRanks
from bwdeploy.worker.ranks import export
from tests.worker.jobs_in_process import ignore_progress, quantize_tiny
from tests.worker.ranks.tiny_models import Made, make_tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    Sources = Callable[[str], Path]
    Cuts = Callable[[Made], Path]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job's own directory, as the worker has it: audits join ranks there."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """The source model of a word of `MODELS`."""
    root = tmp_path_factory.mktemp("rank-sources")

    def source(word: str) -> Path:
        place = root / word
        if not place.exists():
            place.mkdir()
            make_tiny(place, word)
        return place

    return source


@pytest.fixture(scope="session")
def cut(source_of: Sources, tmp_path_factory: pytest.TempPathFactory) -> Cuts:
    """Checkpoints of the tiny models."""
    root = tmp_path_factory.mktemp("ranks")

    def checkpoint(made: Made) -> Path:
        out = root / "-".join(map(str, made))
        if out.exists():
            return out
        source, ranks = source_of(made.model), {"tp": made.tp, "pp": made.pp}
        if made.format is None:
            out.mkdir()
            request = ExportRanks(source=source, out=out, trust_remote_code=False, **ranks)
            export.run(request, ignore_progress)
        else:
            layout: dict[str, Any] = {"layout": "tensorrt_llm", **ranks} if made.pp else {}
            quantize_tiny(source, out, format=made.format, kv_cache=made.kv_cache, **layout)
        return out

    return checkpoint


@pytest.fixture
def damaged(cut: Cuts, tmp_path: Path) -> Path:
    """A private NVFP4 checkpoint of Llama over tp 2 · pp 2, to be damaged."""
    whole = cut(Made("llama", "nvfp4", "fp8", tp=2, pp=2))
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))
