"""A Triton llmapi repository as a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bwdeploy.checks.recipes import check_recipes
from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Found, Wanted
from bwdeploy.migration.sources import llmapi_repository
from bwdeploy.migration.writing import recipe_text

if TYPE_CHECKING:
    from pathlib import Path

MODEL_YAML = """
model: nvidia/DeepSeek-R1-0528-FP4
backend: pytorch
tensor_parallel_size: 8
pipeline_parallel_size: 1
moe_expert_parallel_size: 8
enable_attention_dp: true
max_batch_size: 128
max_num_tokens: 8192
kv_cache_config:
  free_gpu_memory_fraction: 0.8
triton_config:
  max_batch_size: 0
  decoupled: true
  cancellation_check_period_ms: 50
"""
CONFIG = """
name: "tensorrt_llm"
backend: "python"
model_transaction_policy { decoupled: true }
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters { key: "gpu_device_ids" value { string_value: "0,1;2,3" } }
"""


def repository(tmp_path: Path, *, config: str | None = CONFIG, settings: str = MODEL_YAML) -> Path:
    version = tmp_path / "repository" / "tensorrt_llm" / "1"
    version.mkdir(parents=True)
    (version / "model.yaml").write_text(settings)
    if config is not None:
        (version.parent / "config.pbtxt").write_text(config)
    return tmp_path / "repository"


def said(found: Found) -> set[tuple[str, str]]:
    return {(note.effect, note.key) for note in found.notes}


@pytest.mark.parametrize("place", [".", "tensorrt_llm", "tensorrt_llm/1/model.yaml"])
def test_a_repository_becomes_a_recipe_that_passes_check(tmp_path: Path, place: str) -> None:
    path = repository(tmp_path) / place
    assert llmapi_repository.recognizes(path)
    found = llmapi_repository.read(path, Wanted())
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_text(found, source=str(path), file=str(file)))
    (checked,) = check_recipes(file)
    recipe = checked.loaded.recipe
    assert recipe.model.source == "hf://nvidia/DeepSeek-R1-0528-FP4@main"
    assert (recipe.layout.tp, recipe.layout.ep, recipe.layout.attention_dp) == (8, 8, True)
    assert recipe.engine.llm_args == {"kv_cache_config": {"free_gpu_memory_fraction": 0.8}}
    assert (recipe.serve.model_name, recipe.serve.streaming) == ("tensorrt_llm", True)
    assert (recipe.serve.max_running, recipe.serve.cancellation_check_period_ms) == (1024, 50)
    assert {("lost", "instance_group.count"), ("lost", "gpu_device_ids")} <= said(found)


def test_decoupled_in_model_yaml_alone_never_had_an_effect(tmp_path: Path) -> None:
    path = repository(tmp_path, config='name: "tensorrt_llm"\nbackend: "python"\n')
    found = llmapi_repository.read(path, Wanted())
    assert ("no-effect", "triton_config.decoupled") in said(found)
    assert found.recipe["serve"]["streaming"] is False


def test_old_keys_are_translated(tmp_path: Path) -> None:
    settings = (
        "model: nvidia/DeepSeek-R1-FP4\nkv_cache_dtype: fp8\nmoe_backend: TRTLLM\nuse_cuda_graph: true\n"
    )
    found = llmapi_repository.read(repository(tmp_path, config=None, settings=settings), Wanted())
    args = found.recipe["engine"]["llm_args"]
    assert args["kv_cache_config"] == {"dtype": "fp8"}
    assert args["moe_config"] == {"backend": "TRTLLM"}
    assert found.recipe["serve"]["model_name"] == "tensorrt_llm"


def test_what_cannot_be_read_is_refused_with_its_file(tmp_path: Path) -> None:
    path = repository(tmp_path, config='name: "${name}\n')
    with pytest.raises(RecipeError, match=r"config\.pbtxt"):
        llmapi_repository.read(path, Wanted())
    assert not llmapi_repository.recognizes(tmp_path / "nothing")
    assert not llmapi_repository.recognizes(tmp_path)


def test_a_model_yaml_must_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no mapping"):
        llmapi_repository.read(repository(tmp_path, settings="- 1\n"), Wanted())


def test_processors_of_logits_are_a_part_of_the_triton_model(tmp_path: Path) -> None:
    file = tmp_path / "tensorrt_llm" / "1" / "model.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(MODEL_YAML + "logits_post_processors: {json: my.module:guard}\n")
    found = llmapi_repository.read(tmp_path, Wanted())
    (note,) = [note for note in found.notes if note.effect == "lost"]
    assert (note.key, note.value) == ("logits_post_processors", {"json": "my.module:guard"})
