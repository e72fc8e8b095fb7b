"""What the tests of migrations share: one small model to name with --model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.migration.deployments import model_directory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of the shape that every deployment here has."""
    return model_directory(tmp_path_factory.mktemp("migration") / "model")
