"""What the key of a quantization depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bwdeploy.pipeline.stage import Step
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.datasets import found_dataset
from bwdeploy.stages.quantize import QuantizeStage
from tests.pipeline.toy import HOST


def step(**quantize: Any) -> Step:
    data = {"schema": 1, "name": "x", "model": {"source": "file:///m"}, "quantize": quantize}
    planned = QuantizeStage().plan_step(Recipe.model_validate(data), HOST)
    assert planned is not None
    return planned


def test_path_of_a_calibration_file_does_not_count_but_its_content_and_suffix_do() -> None:
    one = step(format="fp8", calibration={"dataset": "file:///a/calib.jsonl"})
    other = step(format="fp8", calibration={"dataset": "file:///b/moved.jsonl"})
    text = step(format="fp8", calibration={"dataset": "file:///a/calib.txt"})
    assert one.params == other.params != text.params
    assert one.sources == {"calibration": Path("/a/calib.jsonl")}


def test_worker_gets_the_calibration_file_with_its_path() -> None:
    planned = step(format="fp8", calibration={"dataset": "file:///a/calib.jsonl"})
    placed = planned.params["calibration"]["dataset"]
    assert found_dataset(placed, planned.sources, name="calibration") == "file:///a/calib.jsonl"


def test_builtin_text_counts_by_its_content() -> None:
    planned = step(format="fp8")
    assert planned.sources["calibration"].name == "topics.py"
    placed = planned.params["calibration"]["dataset"]
    assert found_dataset(placed, planned.sources, name="calibration") == "builtin://python-topics"


def test_file_recipe_of_modelopt_counts_by_its_content() -> None:
    planned = step(recipe="file:///a/ptq.yaml")
    assert planned.sources["recipe"] == Path("/a/ptq.yaml")
    assert "/a/" not in str(planned.params)


def test_prequantized_model_is_not_quantized() -> None:
    data = {
        "schema": 1,
        "name": "x",
        "model": {"source": "file:///m"},
        "quantize": {"method": "prequantized"},
    }
    assert QuantizeStage().plan_step(Recipe.model_validate(data), HOST) is None
