"""Shipped recipes of the quickstart model, built and smoke-tested for real: `pytest -m slow`.

Those that train for a quarter of an hour on a GPU would take days without one: `pytest -m gpu`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
RECIPES = sorted(path.name for path in (PROJECT / "recipes").glob("smollm2-*.yaml"))
TRAINED_ON_A_GPU = {"smollm2-135m-qad-eagle3.yaml"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


def bwdeploy(place: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "bwdeploy", *arguments, "--json"],
        env=os.environ | {"BWDEPLOY_STORE": str(place / "store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_there_are_recipes() -> None:
    assert RECIPES
    assert set(RECIPES) > TRAINED_ON_A_GPU


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(name, marks=pytest.mark.gpu if name in TRAINED_ON_A_GPU else pytest.mark.slow)
        for name in RECIPES
    ],
)
def test_shipped_recipe_builds_within_its_gate_and_answers(recipe: str, place: Path) -> None:
    answer = bwdeploy(place, "build", str(PROJECT / "recipes" / recipe), "-o", str(place / recipe))
    for build in answer.get("builds", [answer]):
        report = json.loads(Path(build["out"], "report", "audit.json").read_text())
        assert [finding for finding in report["findings"] if finding["severity"] == "error"] == []
        assert bwdeploy(place, "smoke", build["out"])["ok"] is True
