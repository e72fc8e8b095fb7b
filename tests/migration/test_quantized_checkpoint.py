"""A checkpoint that ModelOpt quantized as a recipe that serves it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bwdeploy.checks.recipes import check_recipes
from bwdeploy.errors import RecipeError
from bwdeploy.facts.model_configs import bundled_model
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.sources import quantized_checkpoint
from bwdeploy.migration.writing import recipe_text

if TYPE_CHECKING:
    from pathlib import Path

TOLD = {
    "producer": {"name": "modelopt", "version": "0.33.0"},
    "quantization": {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8",
        "group_size": 16,
        "exclude_modules": ["lm_head"],
    },
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "Llama-3.1-8B-NVFP4"
    directory.mkdir()
    model = bundled_model("meta-llama/Llama-3.1-8B-Instruct")
    assert model is not None
    (directory / "config.json").write_text(json.dumps(model.config))
    (directory / "hf_quant_config.json").write_text(json.dumps(TOLD))
    return directory


@pytest.mark.parametrize("name", [".", "hf_quant_config.json"])
def test_a_checkpoint_becomes_a_recipe_that_passes_check(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    assert quantized_checkpoint.recognizes(path)
    found = quantized_checkpoint.read(path, Wanted())
    assert found.kind == "quantized checkpoint (NVFP4, KV cache FP8, by modelopt 0.33.0)"
    file = checkpoint.parent / "recipe.yaml"
    file.write_text(recipe_text(found, source=str(path), file=str(file)))
    (checked,) = check_recipes(file)
    recipe = checked.loaded.recipe
    assert recipe.model.source == f"file://{checkpoint}"
    assert recipe.quantize.method == "prequantized"
    assert recipe.name == "Llama-3.1-8B-NVFP4"
    assert {note.key for note in found.notes} == {"engine.tensorrt_llm", "layout", "engine"}


def test_the_model_can_be_named_by_its_hub_id(checkpoint: Path) -> None:
    wanted = Wanted(
        model="hf://nvidia/Llama-3.1-8B-Instruct-NVFP4@main", tensorrt_llm="1.3.0rc20", name="mine"
    )
    found = quantized_checkpoint.read(checkpoint, wanted)
    assert found.recipe["model"]["source"] == wanted.model
    assert found.recipe["serve"]["server"] == "trtllm-serve"
    assert found.recipe["name"] == "mine"


def test_no_engine_is_built_from_it(checkpoint: Path) -> None:
    with pytest.raises(RecipeError, match="trtllm-build does not read"):
        quantized_checkpoint.read(checkpoint, Wanted(backend="tensorrt"))


def test_other_directories_are_not_recognized(tmp_path: Path) -> None:
    assert not quantized_checkpoint.recognizes(tmp_path)
    assert not quantized_checkpoint.recognizes(tmp_path / "nothing")
    (tmp_path / "hf_quant_config.json").write_text("[1]")
    assert not quantized_checkpoint.recognizes(tmp_path)
