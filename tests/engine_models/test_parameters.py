from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bwdeploy_engine_models.errors import SettingError
from bwdeploy_engine_models.parameters import Parameters


def parameters(directory: Path, **values: str) -> Parameters:
    listed = {name: {"string_value": value} for name, value in values.items()}
    config = json.dumps({"parameters": listed})
    return Parameters({"model_config": config, "model_repository": str(directory), "model_version": "1"})


def test_empty_and_unfilled_parameters_are_unset(tmp_path: Path) -> None:
    found = parameters(tmp_path, empty="", unfilled="${skip}", no="No", yes="1")
    assert [found.switch(name, default=True) for name in ("empty", "unfilled", "missing", "no", "yes")] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert found.whole("empty") is None


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda found: found.switch("wrong", default=True), "'maybe', neither true nor false"),
        (lambda found: found.whole("wrong"), "'maybe', not a whole number"),
        (lambda found: found.folder("wrong"), "which is no directory here"),
        (lambda found: found.folder("missing"), "missing is not set"),
    ],
)
def test_wrong_parameters_are_told(tmp_path: Path, read: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        read(parameters(tmp_path, wrong="maybe"))
