"""Which weight has which format."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bwdeploy.model.describe import DescribedModel
from bwdeploy.planner.weights.precision import weight_precisions
from tests.planner.planned import SMALL_LLAMA, described, known, recipe, unquantized

LLAMA = described(SMALL_LLAMA)
MIXTRAL = unquantized("mistralai/Mixtral-8x7B-v0.1")


def formats(model: DescribedModel, **quantize: Any) -> dict[str, set[str]]:
    """Formats by role."""
    assert model.shape is not None
    found: dict[str, set[str]] = {}
    for part in weight_precisions(recipe(quantize=quantize), model.shape, model.quantization):
        found.setdefault(part.weight.role, set()).add(part.storage.name)
    return found


def tensors(model: DescribedModel, **quantize: Any) -> Counter[str]:
    """Number of tensors by format."""
    assert model.shape is not None
    counts: Counter[str] = Counter()
    for part in weight_precisions(recipe(quantize=quantize), model.shape, model.quantization):
        counts[part.storage.name] += part.weight.tensors
    return counts


def test_head_embedding_and_norms_stay() -> None:
    found = formats(LLAMA, format="nvfp4")
    assert found["head"] == found["embedding"] == found["norm"] == {"bfloat16"}
    assert found["attention"] == found["attention_output"] == found["ffn"] == {"nvfp4"}


@pytest.mark.parametrize(
    ("word", "quantized"),
    [
        ("nvfp4", {"attention", "attention_output", "expert"}),
        ("nvfp4_mlp_only", {"expert"}),
        ("nvfp4_omlp_only", {"attention_output", "expert"}),
        ("nvfp4_experts_only", {"expert"}),
    ],
)
def test_scope_of_a_format(word: str, quantized: set[str]) -> None:
    found = formats(MIXTRAL, format=word)
    assert {role for role, names in found.items() if names == {"nvfp4"}} == quantized
    assert found["router"] == {"bfloat16"}


@pytest.mark.parametrize(
    ("bits", "counted"),
    [(4.5, "nvfp4"), (6.0, "fp8"), (8.0, "fp8"), (8.5, "bfloat16")],
)
def test_a_search_is_counted_in_the_format_that_its_budget_cannot_exceed(bits: float, counted: str) -> None:
    search = {"formats": ["nvfp4", "fp8"], "effective_bits": bits}
    assert formats(LLAMA, method="auto", search=search)["ffn"] == {counted}


def test_an_override_splits_a_group_by_layer() -> None:
    whole = tensors(LLAMA, format="nvfp4")
    split = tensors(LLAMA, format="nvfp4", overrides=[{"modules": "*.layers.0.*", "format": "fp8"}])
    assert split["fp8"] == 7
    assert split["nvfp4"] == whole["nvfp4"] - 7


def test_later_overrides_win() -> None:
    overrides = [{"modules": "*.mlp.*", "format": "fp8"}, {"modules": "*.down_proj", "format": "none"}]
    found = tensors(LLAMA, format="nvfp4", overrides=overrides)
    assert found["fp8"] == 12
    assert found["nvfp4"] == 24


def test_a_format_without_attention_takes_an_override_that_adds_it() -> None:
    overrides = [{"modules": "*.self_attn.*", "format": "fp8"}]
    assert formats(LLAMA, format="nvfp4_mlp_only", overrides=overrides)["attention"] == {"fp8"}


def test_overrides_never_touch_head_or_router() -> None:
    found = formats(MIXTRAL, format="nvfp4", overrides=[{"modules": "*", "format": "fp8"}])
    assert found["head"] == found["router"] == {"bfloat16"}


@pytest.mark.parametrize(
    ("pattern", "named"),
    [("*experts.7.*", 96), ("*.layers.3.*experts.1.*", 3), ("*.experts.[0-3].w1", 128), ("*w?", 768)],
)
def test_a_pattern_may_name_single_experts(pattern: str, named: int) -> None:
    found = tensors(MIXTRAL, format="nvfp4", overrides=[{"modules": pattern, "format": "fp8"}])
    assert found["fp8"] == named


def test_method_none_keeps_the_type_of_the_source() -> None:
    assert formats(described(SMALL_LLAMA | {"dtype": "float32"}), method="none")["ffn"] == {"float32"}


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, ["nvfp4"]),
        ({"quant_algo": "FP8"}, ["fp8"]),
        ({"quant_algo": "fp8_pb_wo"}, ["fp8_block"]),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ["fp8_block"]),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, ["int4"]),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, ["int4"]),
        ({"quant_algo": "SOMETHING_NEW"}, ["bfloat16"]),
        ({"quant_algo": "NVFP4", "ignore": ["*mlp*"]}, ["bfloat16"]),
        ({"quant_algo": "NVFP4", "exclude_modules": ["model.layers.0.mlp"]}, ["bfloat16", "nvfp4"]),
        (
            {
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float"}}},
                "quant_method": "compressed-tensors",
            },
            ["nvfp4"],
        ),
    ],
    ids=str,
)
def test_a_quantized_source_speaks_for_itself(quantization: dict[str, Any], expected: list[str]) -> None:
    model = LLAMA._replace(quantization=quantization)
    found = formats(model, method="prequantized")
    assert found["ffn"] == set(expected)
    assert found["head"] == {"bfloat16"}


def test_mixed_precision_lists_every_module() -> None:
    layers = {
        "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"},
        "model.layers.1.mlp.down_proj": {"quant_algo": "NVFP4", "group_size": 16},
        "lm_head": {"quant_algo": "FP8"},
    }
    model = LLAMA._replace(quantization={"quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    found = tensors(model, method="prequantized")
    assert (found["fp8"], found["nvfp4"]) == (2, 1)
    assert formats(model, method="prequantized")["head"] == {"fp8"}


def test_gpt_oss_has_its_experts_in_mxfp4() -> None:
    found = formats(known("openai/gpt-oss-120b"), method="prequantized")
    assert found["expert"] == {"mxfp4"}
    assert found["attention"] == found["router"] == {"bfloat16"}


def test_multi_token_prediction_layers_stay() -> None:
    model = unquantized("deepseek-ai/DeepSeek-R1")
    assert model.shape is not None
    parts = weight_precisions(recipe(quantize={"format": "nvfp4"}), model.shape, None)
    assert {part.storage.name for part in parts if part.weight.mtp} == {"bfloat16"}


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_algo": 5, "group_size": "x"},
        {"quant_algo": "NVFP4", "group_size": -1, "exclude_modules": {"a": 1}, "ignore": [None, 3]},
        {"quant_algo": "NVFP4", "exclude_modules": ["[", "", "re:.*"]},
        {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"model.layers.0.mlp.down_proj": "FP8"}},
        {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"model.layers.0.mlp.down_proj": {}}},
        {"quant_method": "fp8", "weight_block_size": [0, 128]},
        {"quant_method": "fp8", "weight_block_size": "128"},
        {"quant_method": "gptq", "bits": [4]},
        {"quant_method": "compressed-tensors", "config_groups": []},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": None}}},
        {"kv_cache_scheme": 8, "kv_cache_quant_algo": ["FP8"]},
        {"quant_method": ["fp8"]},
    ],
    ids=str,
)
def test_nonsense_about_quantization_is_no_crash(quantization: dict[str, Any]) -> None:
    assert LLAMA.shape is not None
    parts = weight_precisions(recipe(quantize={"method": "prequantized"}), LLAMA.shape, quantization)
    assert sum(part.weight.elements for part in parts) == LLAMA.shape.parameters
