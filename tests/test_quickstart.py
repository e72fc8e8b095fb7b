"""Shipped recipes of the quickstart model, built and smoke-tested for real: `pytest -m slow`."""

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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


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


@pytest.mark.parametrize("recipe", RECIPES)
def test_shipped_recipe_builds_within_its_gate_and_answers(recipe: str, place: Path) -> None:
    answer = bwdeploy(place, "build", str(PROJECT / "recipes" / recipe), "-o", str(place / recipe))
    for build in answer.get("builds", [answer]):
        report = json.loads(Path(build["out"], "report", "audit.json").read_text())
        assert [finding for finding in report["findings"] if finding["severity"] == "error"] == []
        assert bwdeploy(place, "smoke", build["out"])["ok"] is True
