"""What the key of a quantization depends on."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bwdeploy.errors import GateError
from bwdeploy.pipeline.jobs import QuantizePtq
from bwdeploy.pipeline.stage import Step, Work
from bwdeploy.pipeline.training_jobs import QuantizeTrained
from bwdeploy.recipe.schema import FormatSearch, Recipe, Training
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


def test_default_training_is_written_out_and_counts_for_the_key() -> None:
    plain = step(method="qad", format="nvfp4")
    same = step(method="qad", format="nvfp4", training={"steps": Training().steps})
    longer = step(method="qad", format="nvfp4", training={"steps": 500})
    assert plain.params == same.params != longer.params
    assert plain.params["method"] == "qad"
    assert "search" not in plain.params
    assert "accelerate" in plain.tools
    assert plain.command == "ModelOpt QAD nvfp4 on cpu"


def test_calibration_alone_has_the_key_it_had_before_there_was_training() -> None:
    assert not {"method", "training", "search"} & step(format="nvfp4").params.keys()


def test_search_says_its_budget() -> None:
    planned = step(method="auto", search={"formats": ("nvfp4", "fp8"), "effective_bits": 5.5})
    assert planned.params["search"]["effective_bits"] == 5.5
    assert planned.command == "ModelOpt search of nvfp4, fp8 within 5.5 bits on cpu"


def asked_of_the_worker(planned: Step, place: Path) -> QuantizePtq:
    """The request that the stage makes of its step."""
    asked: list[Any] = []
    work = SimpleNamespace(
        step=planned, inputs={"source": place}, out=place, state=place / "state", run=asked.append
    )
    with pytest.raises(AttributeError):  # there is no result to write
        QuantizeStage().run(cast("Work", work))
    assert isinstance(asked[0], QuantizePtq)
    return asked[0]


def test_training_text_counts_by_its_content_and_reaches_the_worker_with_its_path(tmp_path: Path) -> None:
    planned = step(method="qat", format="nvfp4", training={"dataset": "file:///a/text.jsonl"})
    assert planned.sources["training"] == Path("/a/text.jsonl")
    assert "/a/" not in str(planned.params)
    request = asked_of_the_worker(planned, tmp_path)
    assert isinstance(request, QuantizeTrained)
    assert request.training is not None
    assert request.training.dataset == "file:///a/text.jsonl"
    assert request.calibration.dataset == "builtin://python-topics"
    assert request.state == tmp_path / "state"


def test_search_reaches_the_worker(tmp_path: Path) -> None:
    request = asked_of_the_worker(step(method="auto", search={"effective_bits": 5.5}), tmp_path)
    assert isinstance(request, QuantizeTrained)
    assert request.search == FormatSearch(effective_bits=5.5)


def test_calibration_alone_is_another_request(tmp_path: Path) -> None:
    request = asked_of_the_worker(step(format="nvfp4"), tmp_path)
    assert not isinstance(request, QuantizeTrained)
    assert request.format == "nvfp4"


def judged(out: Path, *, trained: float, exported: float, **more: Any) -> None:
    section = {"method": "qad", "format": "nvfp4", "kv_cache": "fp8"}
    recipe = {"schema": 1, "name": "x", "model": {"source": "file:///m"}, "quantize": section}
    result = {"perplexity_trained": trained, "perplexity_exported": exported} | more
    (out / "quantize.json").write_text(json.dumps(result))
    QuantizeStage().judge(Recipe.model_validate(recipe), out)


@pytest.mark.parametrize("exported", [25.1, math.nan])
def test_export_that_lost_the_training_is_stopped(exported: float, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="the export lost the training"):
        judged(tmp_path, trained=21.5, exported=exported)


def test_export_within_a_hundredth_of_the_training_passes(tmp_path: Path) -> None:
    judged(tmp_path, trained=21.72, exported=21.9)
    judged(tmp_path, trained=21.72, exported=18.0)


@pytest.mark.parametrize(("spread", "stops"), [(0.002, True), (0.05, False)])
def test_export_is_stopped_only_by_more_than_rounding_does(
    spread: float, tmp_path: Path, *, stops: bool
) -> None:
    with pytest.raises(GateError, match="lost the training") if stops else nullcontext():
        judged(tmp_path, trained=11.44, exported=11.62, **pairs(0.016, spread))


def test_all_sequences_decide_where_those_of_validation_say_otherwise(tmp_path: Path) -> None:
    judged(tmp_path, trained=11.44, exported=11.62, **pairs(0.001, 0.01))
    with pytest.raises(GateError, match="lost the training"):
        judged(tmp_path, trained=11.44, exported=11.44, **pairs(0.03, 0.01))


def pairs(shift: float, spread: float) -> dict[str, Any]:
    before = [3.0 + 0.01 * n for n in range(24)]
    after = [one + shift + spread * (-1) ** n for n, one in enumerate(before)]
    return {"likelihoods_trained": before, "likelihoods_exported": after}
