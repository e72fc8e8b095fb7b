"""What costs too much to make for each module."""

from __future__ import annotations

import pytest

from tests.test_engine_build import ENGINE, Place


@pytest.fixture(scope="session")
def engine_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose recipe is built as an engine into `engine`; its store holds every stage."""
    place = Place(tmp_path_factory.mktemp("engines"))
    answer, _ = place.run("build", "recipe.yaml", "--set", ENGINE, "-o", "engine")
    assert {stage["status"] for stage in answer["stages"]} == {"built"}
    return place
