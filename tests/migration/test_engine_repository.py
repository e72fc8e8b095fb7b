"""The five models of an inflight_batcher_llm repository become a recipe."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.migrate import migrate_path
from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.serving.engine_repository import EngineRepositoryInputs, write_engine_repository
from tests.migration.deployments import (
    checked,
    model_directory,
    notes_of,
    write_engine,
    write_repository,
)

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


@pytest.mark.parametrize("streaming", [True, False])
def test_repository_that_bwdeploy_wrote_comes_back_as_it_was(tmp_path: Path, *, streaming: bool) -> None:
    """Migrated and written again, every config.pbtxt is the same, and nothing of serving is lost."""
    model = model_directory(tmp_path / "model")
    (model / "tokenizer.json").write_text("{}")
    engine = write_engine(tmp_path / "engine")
    serve = Serve(
        streaming=streaming,
        max_queued=7,
        cancellation_check_period_ms=250,
        cumulative_text=True,
        engine_parameters={
            "kv_cache_free_gpu_mem_fraction": 0.5,
            "max_attention_window_size": [4096, 512],
            "gpu_device_ids": [[0, 1]],
            "batching_strategy": "V1",
            "add_special_tokens": False,
            "cuda_graph_mode": True,
            "normalize_log_probs": False,
            "lookahead_window_size": 3,
        },
    )
    first = EngineRepositoryInputs(
        serve,
        Engine(
            backend="tensorrt",
            tensorrt_llm="1.2.1",
            max_batch_size=32,
            max_num_tokens=4096,
            max_seq_len=4096,
        ),
        Layout(tp=2, gpus_per_node=2),
        model,
        engine,
    )
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    write_engine_repository(tmp_path / "first", first)
    found = migrate_path(tmp_path / "first", Wanted(model=str(model)))
    assert [note.key for note in found.notes] == ["pretrained_config.quantization.quant_algo"]
    recipe = checked(found, tmp_path)
    again = first._replace(serve=recipe.serve, engine=recipe.engine, layout=recipe.layout)
    write_engine_repository(tmp_path / "second", again)
    for file in (tmp_path / "first").glob("*/config.pbtxt"):
        assert file.read_text() == (tmp_path / "second" / file.parent.name / file.name).read_text()


@pytest.mark.parametrize("named", ["", "llama", "llama/config.pbtxt"])
def test_repository_of_another_name_is_found_by_any_of_its_places(
    repository: Path, model: Path, named: str
) -> None:
    (repository / "tensorrt_llm").rename(repository / "llama")
    found = migrate_path(repository / named, Wanted())
    assert found.recipe["engine"]["max_batch_size"] == 32
    assert notes_of(found, "changed")["model name"].value == "llama"
    assert not notes_of(found, "lost")


def test_unfilled_list_is_no_broken_file(repository: Path) -> None:
    config = repository / "tensorrt_llm" / "config.pbtxt"
    config.write_text(
        config.read_text().replace(
            "dynamic_batching {", "dynamic_batching { preferred_batch_size: [ ${triton_max_batch_size} ]"
        )
    )
    message = notes_of(migrate_path(repository, Wanted()), "no-effect")[
        "tensorrt_llm/config.pbtxt ${…}"
    ].message
    assert "triton_max_batch_size" in message


def test_keys_of_older_templates_are_told_by_what_became_of_them(repository: Path) -> None:
    config = repository / "tensorrt_llm" / "config.pbtxt"
    rows = "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "4" }} }}\n'
        for key in ("enable_trt_overlap", "max_num_sequences")
    )
    config.write_text(config.read_text() + rows)
    found = migrate_path(repository, Wanted())
    assert "tensorrt_llm/config.pbtxt parameters.enable_trt_overlap" in notes_of(found, "no-effect")
    note = notes_of(found, "lost")["tensorrt_llm/config.pbtxt parameters.max_num_sequences"]
    assert "engine.max_batch_size" in note.hint
