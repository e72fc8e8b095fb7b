"""llm_args.yaml says what the recipe means."""

from __future__ import annotations

from typing import Any

from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.engine import llm_args


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"schema": 1, "name": "x", "model": {"source": "file:///m"}, **sections})


def test_layout_and_sizes_are_written() -> None:
    arguments = llm_args(
        recipe(layout={"tp": 8, "ep": 8, "attention_dp": True}, engine={"max_batch_size": 7})
    )
    assert arguments["tensor_parallel_size"] == 8
    assert arguments["moe_expert_parallel_size"] == 8
    assert arguments["enable_attention_dp"] is True
    assert arguments["max_batch_size"] == 7


def test_kv_cache_format_joins_other_kv_settings() -> None:
    arguments = llm_args(
        recipe(
            quantize={"format": "fp8", "kv_cache": "fp8"},
            engine={"llm_args": {"kv_cache_config": {"free_gpu_memory_fraction": 0.8}}},
        )
    )
    assert arguments["kv_cache_config"] == {"dtype": "fp8", "free_gpu_memory_fraction": 0.8}


def test_single_gpu_needs_no_expert_or_node_arguments() -> None:
    assert not {"moe_expert_parallel_size", "gpus_per_node"} & llm_args(recipe()).keys()
