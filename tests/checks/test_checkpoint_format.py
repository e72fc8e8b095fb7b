"""The formats of the served checkpoint, from recipes and from what sources say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.checks.checkpoint_format import CheckpointFormat, checkpoint_format
from bwdeploy.checks.rule import subject_of
from bwdeploy.recipe.schema import Recipe
from tests.checks.model_configs import LLAMA, MIXTRAL


def format_of(directory: Path, quantize: dict[str, Any], config: dict[str, Any]) -> CheckpointFormat | None:
    (directory / "config.json").write_text(json.dumps(config))
    recipe = Recipe.model_validate(
        {"schema": 1, "name": "n", "model": {"source": f"file://{directory}"}, "quantize": quantize},
        strict=False,
    )
    return checkpoint_format(subject_of(recipe))


def source_format(directory: Path, said: dict[str, Any]) -> CheckpointFormat | None:
    return format_of(directory, {"method": "prequantized"}, {**MIXTRAL, "quantization_config": said})


@pytest.mark.parametrize(
    ("said", "algorithms", "experts", "kv_cache"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("FP8_BLOCK_SCALES",), "", None),
        ({"quant_method": "fp8"}, ("FP8",), "", None),
        ({"quant_method": "mxfp4"}, ("MXFP4",), "", None),
        ({"quant_method": "awq", "bits": 4}, ("W4A16_AWQ",), "", None),
        ({"quant_method": "gptq", "bits": 4}, ("W4A16_GPTQ",), "", None),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, ("NVFP4",), "", None),
        ({"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, ("NVFP4",), "", "FP8"),
        ({"quant_algo": "NVFP4", "kv_cache_quant_algo": "none"}, ("NVFP4",), "", None),
        ({"quant_algo": "fp8_pb_wo"}, ("FP8_BLOCK_SCALES",), "", None),
        ({"quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, ("NVFP4",), "", "FP8"),
        (
            {"quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 4, "type": "float"}},
            ("NVFP4",),
            "",
            "NVFP4",
        ),
        ({"quant_algo": "NVFP4", "exclude_modules": ["*.experts.*"]}, ("NVFP4",), "BF16", None),
        ({"quant_algo": "NVFP4", "ignore": ["*.shared_experts.*"]}, ("NVFP4",), "", None),
        ({"quant_algo": "NVFP4", "exclude_modules": "lm_head"}, ("NVFP4",), "", None),
    ],
)
def test_a_source_is_taken_at_its_word(
    tmp_path: Path, said: dict[str, Any], algorithms: tuple[str, ...], experts: str, kv_cache: str | None
) -> None:
    found = source_format(tmp_path, said)
    assert found is not None
    assert (found.algorithms, found.experts, found.kv_cache) == (
        algorithms,
        experts or algorithms[0],
        kv_cache,
    )
    assert found.path == ("model", "source")


def test_mixed_precision_names_each_format_and_that_of_the_experts(tmp_path: Path) -> None:
    layers = {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.block_sparse_moe.experts.0.w1": {"quant_algo": "NVFP4"},
        "model.layers.1.self_attn.q_proj": {"quant_algo": 8},
    }
    found = source_format(tmp_path, {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    assert found is not None
    assert (found.algorithms, found.experts, found.main) == (("FP8", "NVFP4"), "NVFP4", "FP8")


@pytest.mark.parametrize(
    "said",
    [
        {"quant_method": "bitsandbytes"},
        {"quant_algo": "MIXED_PRECISION"},
        {"quant_algo": 4},
        {"quantized_layers": []},
        {"quant_method": ["fp8"]},
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    ],
)
def test_what_is_not_understood_is_not_guessed(tmp_path: Path, said: dict[str, Any]) -> None:
    assert source_format(tmp_path, said) is None


def test_an_unquantized_checkpoint_has_no_formats(tmp_path: Path) -> None:
    found = format_of(tmp_path, {"method": "none"}, LLAMA)
    assert found == CheckpointFormat((), "BF16", None, ("quantize", "method"))
    assert found.main is None


def test_a_modelopt_recipe_decides_for_itself(tmp_path: Path) -> None:
    assert format_of(tmp_path, {"recipe": "general/x"}, LLAMA) is None


@pytest.mark.parametrize(
    ("overrides", "experts"),
    [
        ([], "NVFP4"),
        ([{"modules": "*.experts.*", "format": "fp8"}], "FP8"),
        ([{"modules": "*.experts.*", "format": "none"}], "BF16"),
        ([{"modules": "*.self_attn.*", "format": "fp8"}], "NVFP4"),
        ([{"modules": "*.experts.*", "format": "fp8"}, {"modules": "*w1", "format": "none"}], "BF16"),
    ],
)
def test_the_last_override_that_takes_in_experts_decides(
    tmp_path: Path, overrides: list[dict[str, str]], experts: str
) -> None:
    found = format_of(tmp_path, {"format": "nvfp4", "kv_cache": "fp8", "overrides": overrides}, MIXTRAL)
    assert found is not None
    assert (found.main, found.experts, found.kv_cache) == ("NVFP4", experts, "FP8")


def test_without_a_shape_the_name_of_a_pattern_tells_experts(tmp_path: Path) -> None:
    unknown = {"architectures": ["NobodyKnowsForCausalLM"]}
    overrides = [{"modules": "*.mlp.experts.*", "format": "fp8"}]
    found = format_of(tmp_path, {"format": "nvfp4", "overrides": overrides}, unknown)
    assert found is not None
    assert found.experts == "FP8"
