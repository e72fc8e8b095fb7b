"""What costs too much to make for each module, and no network: retries of a hub would take half a minute."""

from __future__ import annotations

import os
import signal

import pytest

from tests.engine_place import ENGINE, make_engine_place
from tests.place import Place

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported, so here and not later
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for name in ("BWDEPLOY_STORE", "BWDEPLOY_CACHE", "BWDEPLOY_EXECUTOR"):
    os.environ.pop(name, None)  # a developer's own store is neither read nor filled
# A shell starts background jobs with Ctrl-C ignored, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def engine_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose recipe is built as an engine into `engine`; its store holds every stage."""
    place = make_engine_place(tmp_path_factory.mktemp("engines"))
    answer, _ = place.run("build", "recipe.yaml", "--set", ENGINE, "-o", "engine")
    assert {stage["status"] for stage in answer["stages"]} == {"built"}
    return place
