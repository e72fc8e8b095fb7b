"""Limits are applied to a measurement, and each broken one is said in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import GateError
from bwdeploy.pipeline.jobs import AuditFinding, AuditReport, TensorError
from bwdeploy.recipe.schema import Gate, Recipe
from bwdeploy.stages.gate import REPORT, GateStage, broken_limits
from tests.pipeline.toy import HOST


def report(**changes: Any) -> AuditReport:
    values: dict[str, Any] = {
        "tensors": 2,
        "parameters": 1000,
        "bits_per_parameter": 6.0,
        "bits_per_quantized_parameter": 4.5,
        "dtype_census": {},
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": None,
        "findings": (),
        "compared_tensors": 1,
        "worst_tensors": (TensorError(name="a.weight", relative_error=0.1),),
        "source_perplexity": 20.0,
        "quantized_perplexity": 24.0,
        "evaluated_tokens": 4096,
        "activations": "quantized",
        "seconds": {},
        "peak_memory_bytes": 1,
    }
    return AuditReport.model_validate(values | changes)


def test_measurement_within_all_limits_passes() -> None:
    gate = Gate(max_perplexity_increase=0.2, max_weight_error=0.1, max_bits_per_weight=6.0)
    assert list(broken_limits(report(), gate)) == []


def test_limit_that_is_not_given_is_not_applied() -> None:
    assert list(broken_limits(report(quantized_perplexity=1e9), Gate())) == []


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (Gate(max_perplexity_increase=0.19), "perplexity 20.00 → 24.00 (+20.0%)"),
        (Gate(max_weight_error=0.09), "a.weight is 0.1000"),
        (Gate(max_bits_per_weight=5.9), "6.000 bits per parameter"),
    ],
)
def test_broken_limit_names_value_and_limit(gate: Gate, words: str) -> None:
    (line,) = broken_limits(report(), gate)
    assert words in line


@pytest.mark.parametrize("perplexity", [math.nan, math.inf])
def test_perplexity_that_is_not_a_number_breaks_the_limit(perplexity: float) -> None:
    broken = report().model_copy(update={"quantized_perplexity": perplexity})
    assert list(broken_limits(broken, Gate(max_perplexity_increase=10.0)))


def test_limit_without_a_source_to_compare_with_is_broken() -> None:
    assert list(broken_limits(report(source_perplexity=None), Gate(max_perplexity_increase=1.0)))


def test_error_finding_breaks_the_gate_without_any_limit(tmp_path: Path) -> None:
    finding = AuditFinding(check="scale-not-finite", severity="error", message="NaN in a scale")
    (tmp_path / REPORT).write_text(report(findings=(finding,)).model_dump_json())
    recipe = Recipe.model_validate({"schema": 1, "name": "x", "model": {"source": "file:///m"}})
    with pytest.raises(GateError, match="scale-not-finite"):
        GateStage().judge(recipe, tmp_path)


def test_limits_are_not_part_of_the_key() -> None:
    def params(gate: dict[str, float]) -> object:
        data = {"schema": 1, "name": "x", "model": {"source": "file:///m"}, "gate": gate}
        return GateStage().plan_step(Recipe.model_validate(data), HOST).params

    assert params({}) == params({"max_weight_error": 0.1})
