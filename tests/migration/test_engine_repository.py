"""The five models of an inflight_batcher_llm repository become a recipe."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.migrate import migrate_path
from tests.migration.deployments import checked, notes_of, write_engine, write_repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path, model: Path) -> Path:
    engine = write_engine(tmp_path / "engine")
    values = {"engine_dir": str(engine)}
    return write_repository(tmp_path / "triton-models", values=values, tokenizer=str(model))


def test_repository_comes_through_with_its_engine(repository: Path, tmp_path: Path, model: Path) -> None:
    found = migrate_path(repository, Wanted())
    recipe = checked(found, tmp_path)
    # tokenizer_dir held the whole model, so that nobody has to name it.
    assert recipe.model.source == f"file://{model}"
    assert (recipe.engine.max_batch_size, recipe.layout.tp, recipe.engine.build_flags["gemm_plugin"]) == (
        32,
        2,
        "fp8",
    )
    assert recipe.serve.engine_parameters == {
        "add_special_tokens": False,
        "max_queue_delay_microseconds": 1000,
        "kv_cache_free_gpu_mem_fraction": 0.85,
        "enable_kv_cache_reuse": True,
        "enable_chunked_context": True,
        "batch_scheduler_policy": "max_utilization",
        "kv_cache_host_memory_bytes": 45_000_000_000,
        "exclude_input_in_output": True,
        "normalize_log_probs": True,
        "iter_stats_max_iterations": 1000,
        "max_attention_window_size": [4096, 4096],
        "decoding_mode": "top_k_top_p",
    }
    assert (recipe.serve.cancellation_check_period_ms, recipe.serve.max_queued, recipe.serve.streaming) == (
        50,
        128,
        True,
    )


def test_repository_on_pytorch(repository: Path, tmp_path: Path) -> None:
    found = migrate_path(repository, Wanted(backend="pytorch"))
    recipe = checked(found, tmp_path)
    assert recipe.engine.llm_args == {
        "kv_cache_config": {
            "tokens_per_block": 64,
            "free_gpu_memory_fraction": 0.85,
            "enable_block_reuse": True,
            "host_cache_size": 45_000_000_000,
            "max_attention_window": [4096, 4096],
        },
        "enable_chunked_prefill": True,
        "scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION"},
        "iter_stats_max_iterations": 1000,
    }
    assert recipe.serve.engine_parameters == {}
    assert notes_of(found, "lost").keys() == {"preprocessing/config.pbtxt parameters.add_special_tokens"}
    # What was said is not reported as a changed default as well.
    assert "enable_kv_cache_reuse (not set)" not in notes_of(found, "changed")


def test_unfilled_keys_count_as_not_set_and_are_named(repository: Path, tmp_path: Path) -> None:
    config = repository / "tensorrt_llm" / "config.pbtxt"
    text = config.read_text().replace("decoupled: true", "decoupled: ${decoupled_mode}")
    config.write_text(text.replace("max_batch_size: 32", "max_batch_size: ${triton_max_batch_size}"))
    found = migrate_path(repository, Wanted())
    assert "medusa_choices" not in checked(found, tmp_path).serve.engine_parameters
    message = notes_of(found, "no-effect")["tensorrt_llm/config.pbtxt ${…}"].message
    for key in ("medusa_choices", "gpu_device_ids", "triton_max_batch_size", "decoupled_mode"):
        assert key in message


def test_engine_that_is_not_here_leaves_its_sizes_open(tmp_path: Path, model: Path) -> None:
    repository = write_repository(tmp_path / "repository")
    found = migrate_path(repository, Wanted(model=str(model)))
    recipe = checked(found, tmp_path)
    assert recipe.engine.max_batch_size == 32  # Triton's own
    assumed = notes_of(found, "assumed")
    assert assumed["tensorrt_llm/config.pbtxt parameters.gpt_model_path"].value == "/engines/llama"
    assert {"layout", "engine.tensorrt_llm", "max_num_tokens"} <= assumed.keys()


@pytest.mark.parametrize("named", ["engine", "/models/tensorrt_llm/1/engine", "1/engine"])
def test_engine_inside_the_repository_is_found(tmp_path: Path, model: Path, named: str) -> None:
    """By a path relative to its model, or by the one that it has where the repository is mounted."""
    repository = write_repository(tmp_path / "repository", values={"engine_dir": named})
    write_engine(repository / "tensorrt_llm" / "1" / "engine", build={"max_batch_size": 7})
    found = migrate_path(repository, Wanted(model=str(model)))
    assert found.recipe["engine"]["max_batch_size"] == 7


def test_unlimited_queue_is_said(repository: Path) -> None:
    for name in ("preprocessing", "tensorrt_llm"):
        config = repository / name / "config.pbtxt"
        config.write_text(config.read_text().replace("max_queue_size: 128", "max_queue_size: 0"))
    found = migrate_path(repository, Wanted())
    assert "max_queued" not in found.recipe["serve"]
    assert "tensorrt_llm/config.pbtxt dynamic_batching.default_queue_policy" in notes_of(found, "changed")


def test_model_of_somebody_elses_is_lost(repository: Path) -> None:
    shutil.copytree(repository / "preprocessing", repository / "reranker")
    assert "reranker" in notes_of(migrate_path(repository, Wanted()), "lost")


def test_parameter_that_no_template_has_is_lost(repository: Path) -> None:
    config = repository / "tensorrt_llm" / "config.pbtxt"
    config.write_text(config.read_text() + 'parameters { key: "my_switch" value { string_value: "1" } }\n')
    assert "tensorrt_llm/config.pbtxt parameters.my_switch" in notes_of(
        migrate_path(repository, Wanted()), "lost"
    )


def test_value_of_the_wrong_kind_is_lost(repository: Path) -> None:
    config = repository / "tensorrt_llm" / "config.pbtxt"
    config.write_text(config.read_text().replace('"0.85"', '"a lot"'))
    found = migrate_path(repository, Wanted())
    assert "kv_cache_free_gpu_mem_fraction" not in found.recipe["serve"]["engine_parameters"]
    note = notes_of(found, "lost")["tensorrt_llm/config.pbtxt parameters.kv_cache_free_gpu_mem_fraction"]
    assert "should be a number" in note.message


def test_broken_pbtxt_is_told_with_its_line(repository: Path) -> None:
    (repository / "tensorrt_llm" / "config.pbtxt").write_text('name: "tensorrt_llm"\ngpt_model_path {{\n')
    with pytest.raises(RecipeError, match=r"is no config\.pbtxt: 2:"):
        migrate_path(repository, Wanted())
