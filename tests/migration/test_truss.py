"""Truss configurations with trt_llm become recipes, of both inference stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.migrate import migrate_path
from tests.migration.deployments import TRUSS, TRUSS_SPECULATOR, TRUSS_V2, checked, notes_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def truss(tmp_path: Path) -> Path:
    (tmp_path / "truss").mkdir()
    (tmp_path / "truss" / "config.yaml").write_text(TRUSS)
    return tmp_path / "truss"


def test_truss_of_engines(truss: Path, tmp_path: Path) -> None:
    found = migrate_path(truss, Wanted())
    recipe = checked(found, tmp_path)
    revision = "6f6073b423013f6a7d4d9f39144961bfbfbc386b"
    assert recipe.model.source == f"hf://meta-llama/Llama-3.3-70B-Instruct@{revision}"
    assert (recipe.name, recipe.layout.gpu, recipe.layout.tp) == ("Llama-3.3-70B-FP8", "H100", 2)
    assert (recipe.quantize.format, recipe.quantize.kv_cache) == ("fp8", "fp8")
    # What Truss sets without a word is not what trtllm-build and the server take.
    assert (recipe.engine.max_batch_size, recipe.engine.max_num_tokens) == (128, 8192)
    assert recipe.serve.engine_parameters == {
        "kv_cache_free_gpu_mem_fraction": 0.85,
        "batch_scheduler_policy": "max_utilization",
        "enable_chunked_context": True,
    }
    assert notes_of(found, "lost").keys() == {
        "trt_llm.build.num_builder_gpus", "trt_llm.runtime.request_default_max_tokens", "secrets",
    }  # fmt: skip


def test_truss_of_engines_on_pytorch(truss: Path, tmp_path: Path) -> None:
    recipe = checked(migrate_path(truss / "config.yaml", Wanted(backend="pytorch")), tmp_path)
    assert recipe.engine.llm_args == {
        "kv_cache_config": {"free_gpu_memory_fraction": 0.85},
        "scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION"},
        "enable_chunked_prefill": True,
    }


def test_speculator_comes_through_on_engines_and_is_lost_on_pytorch(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TRUSS_SPECULATOR)
    found = migrate_path(file, Wanted())
    recipe = checked(found, tmp_path)
    # (7 - 1 + 3) * (5 - 1) + 5 - 2 tokens, as Truss counts them itself.
    flags = {"speculative_decoding_mode": "lookahead_decoding", "max_draft_len": 39}
    assert recipe.engine.build_flags == flags
    assert recipe.serve.engine_parameters["lookahead_window_size"] == 7
    assert "trt_llm.build.checkpoint_repository.revision" in notes_of(found, "assumed")
    found = migrate_path(file, Wanted(backend="pytorch"))
    assert checked(found, tmp_path).speculative is None
    lost = notes_of(found, "lost")
    assert "NGram" in lost["trt_llm.build.speculator.speculative_decoding_mode"].hint
    for key in ("lookahead_windows_size", "lookahead_ngram_size", "lookahead_verification_set_size"):
        assert f"trt_llm.build.speculator.{key}" in lost


def test_drafting_model_is_another_deployment(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    speculator = (
        "    speculator:\n      speculative_decoding_mode: DRAFT_TOKENS_EXTERNAL\n      num_draft_tokens: 4\n"
        "      checkpoint_repository: {source: HF, repo: meta-llama/Llama-3.1-8B-Instruct}\n  runtime:\n"
    )
    file.write_text(TRUSS.replace("  runtime:\n", speculator))
    found = migrate_path(file, Wanted())
    assert checked(found, tmp_path).engine.build_flags["max_draft_len"] == 4
    assert (
        notes_of(found, "lost")["trt_llm.build.speculator.checkpoint_repository"].value
        == "meta-llama/Llama-3.1-8B-Instruct"
    )


def test_truss_v2_is_a_recipe_of_the_pytorch_backend(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TRUSS_V2)
    found = migrate_path(file, Wanted())
    recipe = checked(found, tmp_path)
    assert (recipe.engine.backend, recipe.layout.tp, recipe.layout.ep, recipe.layout.gpu) == (
        "pytorch",
        4,
        4,
        "B200",
    )
    assert recipe.quantize.method == "prequantized"
    assert recipe.engine.llm_args["kv_cache_config"]["free_gpu_memory_fraction"] == 0.8
    assert "trt_llm.runtime.patch_kwargs.reasoning_parser" in notes_of(found, "lost")


def test_truss_v2_that_quantizes_itself(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = TRUSS_V2.replace("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", "Qwen/Qwen3-4B")
    file.write_text(text.replace("no_quant", "fp4_kv").replace("          dtype: fp8\n", ""))
    found = migrate_path(file, Wanted())
    recipe = checked(found, tmp_path)
    assert (recipe.quantize.method, recipe.quantize.format, recipe.quantize.kv_cache) == (
        "ptq",
        "nvfp4",
        "fp8",
    )
    assert "quantize.method" not in notes_of(found, "assumed")
    assert ("quantize", "method") not in found.comments


@pytest.mark.parametrize(
    ("word", "name"), [("fp4_mlp_only", "nvfp4_mlp_only"), ("smooth_quant", None), ("weights_int8", None)]
)
def test_quantization_type(tmp_path: Path, word: str, name: str | None) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        TRUSS.replace("fp8_kv", word).replace("use_fp8_context_fmha: true", "use_fp8_context_fmha: false")
    )
    found = migrate_path(file, Wanted())
    assert found.recipe["quantize"].get("format") == name
    assert ("trt_llm.build.quantization_type" in notes_of(found, "lost")) == (name is None)


def test_weights_in_a_bucket_need_a_model(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TRUSS.replace("source: HF", "source: GCS"))
    with pytest.raises(RecipeError, match="does not say which model"):
        migrate_path(file, Wanted())
    found = migrate_path(file, Wanted(model=str(model)))
    assert "trt_llm.build.checkpoint_repository" in notes_of(found, "lost")


def test_truss_without_a_build(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("trt_llm:\n  serve: {engine_repository: me/engine, tokenizer_repository: me/model}\n")
    with pytest.raises(RecipeError, match="trt_llm has no section build"):
        migrate_path(file, Wanted())


def test_sections_that_are_no_mappings_count_as_empty(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "environment_variables: x\ntrt_llm: {inference_stack: v2, build: [1], runtime: {patch_kwargs: 7}}\n"
    )
    found = migrate_path(file, Wanted(model=str(model)))
    assert found.recipe["engine"]["max_batch_size"] == 256


@pytest.mark.parametrize("stack", ["", "  inference_stack: v2\n"])
@pytest.mark.parametrize("base", ["encoder", "encoder_bert", "whisper"])
def test_model_that_writes_no_text_is_refused(truss: Path, base: str, stack: str) -> None:
    file = truss / "config.yaml"
    text = file.read_text().replace("base_model: decoder", f"base_model: {base}")
    file.write_text(text.replace("trt_llm:\n", f"trt_llm:\n{stack}"))
    with pytest.raises(RecipeError, match=f"base_model {base}: a recipe serves models that write text"):
        migrate_path(truss, Wanted())


def test_amount_of_calibration_comes_through(truss: Path, tmp_path: Path) -> None:
    file = truss / "config.yaml"
    added = (
        "    quantization_config: {calib_size: 2048, calib_max_seq_length: 4096, calib_dataset: org/text}\n"
    )
    file.write_text(file.read_text().replace("    quantization_type", f"{added}    quantization_type"))
    found = migrate_path(truss, Wanted())
    calibration = checked(found, tmp_path).quantize.calibration
    assert (calibration.samples, calibration.seq_len) == (2048, 4096)
    assert "org/text" in notes_of(found, "assumed")["trt_llm.build.quantization_type"].message
