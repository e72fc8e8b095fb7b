"""llm_args.yaml says what the recipe means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from bwdeploy.pipeline.stage import Work
from bwdeploy.recipe.schema import Recipe
from bwdeploy.stages.engine import EngineStage, llm_args
from bwdeploy.tools.executors import local_executor
from tests.pipeline.toy import HOST

if TYPE_CHECKING:
    from pathlib import Path


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


def test_mtp_is_spelled_as_the_version_spells_it() -> None:
    old = llm_args(recipe(speculative={"method": "mtp"}))
    new = llm_args(recipe(speculative={"method": "mtp"}, engine={"tensorrt_llm": "1.3.0"}))
    assert old["speculative_config"] == {"decoding_type": "MTP", "num_nextn_predict_layers": 3}
    assert new["speculative_config"] == {"decoding_type": "MTP", "max_draft_len": 3}


def test_further_speculative_arguments_join_the_section() -> None:
    engine = {"llm_args": {"speculative_config": {"relaxed_topk": 10}}}
    arguments = llm_args(recipe(speculative={"method": "mtp", "draft_len": 2}, engine=engine))
    assert arguments["speculative_config"] == {
        "decoding_type": "MTP",
        "num_nextn_predict_layers": 2,
        "relaxed_topk": 10,
    }


def test_batch_sizes_that_are_keys_are_written_as_numbers(tmp_path: Path) -> None:
    """A recipe is JSON inside, where every key is text."""
    engine = {"llm_args": {"speculative_config": {"draft_len_schedule": {"1": 3, "8": 1}}}}
    stage = EngineStage()
    step = stage.plan_step(recipe(speculative={"method": "mtp"}, engine=engine), HOST)
    assert step is not None
    stage.run(
        Work(
            step=step,
            inputs={},
            out=tmp_path,
            executor=local_executor(),
            log=tmp_path / "log",
            scratch=tmp_path,
            state=tmp_path,
            on_progress=print,
        )
    )
    written = yaml.safe_load((tmp_path / "llm_args.yaml").read_text())
    assert written["speculative_config"]["draft_len_schedule"] == {1: 3, 8: 1}
