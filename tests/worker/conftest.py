"""Fixtures of the worker's tests: the tiny source model and a way to run jobs in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.worker.tiny_llama import make_tiny_llama

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the tiny source model."""
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))
