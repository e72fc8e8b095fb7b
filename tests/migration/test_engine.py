"""Engine directories and TensorRT-LLM checkpoints become recipes for either backend."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.facts.model_configs import bundled_model
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.migrate import migrate_path
from bwdeploy.migration.sources import read_source
from tests.migration.deployments import checked, checkpoint_config, engine_config, notes_of, write_engine

if TYPE_CHECKING:
    from pathlib import Path

LOOKAHEAD = 8
"""Number of this way of drafting in config.json."""


def test_engine_becomes_a_recipe_that_builds_it_again(tmp_path: Path, model: Path) -> None:
    found = migrate_path(write_engine(tmp_path / "llama-engine"), Wanted(model=str(model)))
    recipe = checked(found, tmp_path)
    assert (recipe.name, recipe.engine.backend, recipe.engine.tensorrt_llm) == (
        "llama-engine",
        "tensorrt",
        "1.2.1",
    )
    assert (recipe.engine.max_batch_size, recipe.engine.max_num_tokens, recipe.engine.max_seq_len) == (
        32,
        4096,
        4096,
    )
    assert (recipe.layout.tp, recipe.layout.pp, recipe.layout.gpus_per_node) == (2, 1, 2)
    assert (recipe.quantize.method, recipe.quantize.format, recipe.quantize.kv_cache) == ("ptq", "fp8", "fp8")
    # Only what somebody chose: 45 other settings stand in config.json at their defaults.
    assert recipe.engine.build_flags == {
        "gemm_plugin": "fp8",
        "reduce_fusion": "enable",
        "tokens_per_block": 64,
        "multiple_profiles": "enable",
    }


def test_same_engine_on_pytorch(tmp_path: Path, model: Path) -> None:
    wanted = Wanted(model=str(model), backend="pytorch")
    found = migrate_path(write_engine(tmp_path / "engine") / "config.json", wanted)
    recipe = checked(found, tmp_path)
    assert recipe.engine.backend == "pytorch"
    assert recipe.engine.llm_args == {"kv_cache_config": {"tokens_per_block": 64}}
    assert recipe.engine.build_flags == {}
    assert recipe.serve.max_running == 32
    place = "build_config.plugin_config"
    assert notes_of(found, "no-effect").keys() == {f"{place}.{key}" for key in (
        "gemm_plugin", "reduce_fusion", "multiple_profiles",
    )}  # fmt: skip
    assert "enable_kv_cache_reuse (not set)" in notes_of(found, "changed")


def test_pytorch_on_a_version_that_no_triton_image_has(tmp_path: Path, model: Path) -> None:
    wanted = Wanted(model=str(model), backend="pytorch", tensorrt_llm="1.3.0rc27")
    recipe = checked(migrate_path(write_engine(tmp_path / "engine"), wanted), tmp_path)
    assert (recipe.engine.tensorrt_llm, recipe.serve.server) == ("1.3.0rc27", "trtllm-serve")


def test_old_engine_is_built_anew_with_the_last_version(tmp_path: Path, model: Path) -> None:
    changes: dict[str, Any] = {
        "version": "0.17.0.post1",
        "build": {
            "max_input_len": 2048,
            "auto_parallel_config": {"world_size": 1, "gpus_per_node": 8, "cluster_key": "H100-SXM"},
            "plugin_config": {
                "use_paged_context_fmha": False,
                "tokens_per_block": 32,
                "multi_block_mode": False,
            },
        },
    }
    engine = write_engine(tmp_path / "engine", **changes)
    found = migrate_path(engine, Wanted(model=str(model)))
    recipe = checked(found, tmp_path)
    assert recipe.engine.tensorrt_llm == "1.2.1"
    assert notes_of(found, "changed")["version"].value == "0.17.0.post1"
    assert recipe.engine.build_flags["use_paged_context_fmha"] == "disable"
    assert "build_config.max_input_len" in notes_of(found, "no-effect")
    on_pytorch = checked(migrate_path(engine, Wanted(model=str(model), backend="pytorch")), tmp_path)
    # An engine without paged prompt attention never shared blocks; PyTorch would unless told not to.
    assert on_pytorch.engine.llm_args == {"kv_cache_config": {"enable_block_reuse": False}}


def test_version_that_never_was_is_said(tmp_path: Path, model: Path) -> None:
    found = migrate_path(write_engine(tmp_path / "engine", version="0.19.7"), Wanted(model=str(model)))
    assert "there is no such TensorRT-LLM" in notes_of(found, "assumed")["version"].message


def test_missing_rank_is_a_note(tmp_path: Path, model: Path) -> None:
    found = migrate_path(write_engine(tmp_path / "engine", ranks=(0,)), Wanted(model=str(model)))
    assert notes_of(found, "assumed")["engine files"].value == "rank1.engine"
    checked(found, tmp_path)


@pytest.mark.parametrize(
    ("mode", "kept", "way_out"),
    [(2, True, "DraftTarget"), (4, False, "EAGLE-3"), (LOOKAHEAD, True, "NGram"), (32, False, "EAGLE-3")],
)
def test_drafting_of_engines(tmp_path: Path, model: Path, *, mode: int, kept: bool, way_out: str) -> None:
    """Heads are in a checkpoint that no build makes; what needs none is built again. PyTorch has neither."""
    engine = write_engine(tmp_path / "engine", build={"speculative_decoding_mode": mode, "max_draft_len": 5})
    place = "build_config.speculative_decoding_mode"
    found = migrate_path(engine, Wanted(model=str(model)))
    flags = found.recipe["engine"]["build_flags"]
    without = migrate_path(write_engine(tmp_path / "plain"), Wanted(model=str(model)))
    # trtllm-build had added the drafted tokens to what was asked for.
    assert found.recipe["engine"]["max_seq_len"] == without.recipe["engine"]["max_seq_len"] - 5
    assert ("speculative_decoding_mode" in flags, "max_draft_len" in flags) == (kept, kept)
    assert {place, "build_config.max_draft_len"} - notes_of(found, "lost").keys() == (
        {place, "build_config.max_draft_len"} if kept else set()
    )
    if mode == LOOKAHEAD:
        with pytest.raises(
            RecipeError, match="lookahead_window_size"
        ):  # said to the server, not to trtllm-build
            checked(found, tmp_path)
    else:
        checked(found, tmp_path)
    found = migrate_path(engine, Wanted(model=str(model), backend="pytorch"))
    assert checked(found, tmp_path).speculative is None
    assert way_out in notes_of(found, "lost")[place].hint


def test_lora_comes_through_only_with_its_plugin(tmp_path: Path, model: Path) -> None:
    lora = {"max_lora_rank": 16, "lora_target_modules": ["attn_q", "attn_v"]}
    without = write_engine(tmp_path / "without", build={"lora_config": lora})
    assert (
        "max_lora_rank"
        not in checked(migrate_path(without, Wanted(model=str(model))), tmp_path).engine.build_flags
    )
    build = {"lora_config": lora, "plugin_config": {"lora_plugin": "bfloat16"}}
    engine = write_engine(tmp_path / "with", build=build)
    flags = checked(migrate_path(engine, Wanted(model=str(model))), tmp_path).engine.build_flags
    assert (flags["lora_plugin"], flags["max_lora_rank"]) == ("bfloat16", 16)
    on_pytorch = migrate_path(engine, Wanted(model=str(model), backend="pytorch"))
    arguments = checked(on_pytorch, tmp_path).engine.llm_args
    assert arguments["enable_lora"] is True
    assert arguments["lora_config"] == {"max_lora_rank": 16, "lora_target_modules": ["attn_q", "attn_v"]}


@pytest.mark.parametrize(
    ("algorithm", "kv_cache", "method", "name", "lost"),
    [
        ("NVFP4", "FP8", "ptq", "nvfp4", set()),
        ("FP8_PER_CHANNEL_PER_TOKEN", None, "ptq", "fp8_per_channel_per_token", set()),
        (None, None, "none", None, set()),
        ("W4A16_AWQ", "INT8", "none", None, {"", " (KV cache)"}),
        ("FP8", "INT8", "ptq", "fp8", {" (KV cache)"}),
    ],
)
def test_quantization_by_its_word(
    tmp_path: Path, model: Path, *, algorithm: str | None, kv_cache: str | None, method: str,
    name: str | None, lost: set[str],
) -> None:  # fmt: skip
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": kv_cache}
    engine = write_engine(tmp_path / "engine", pretrained_config=checkpoint_config(quantization=quantization))
    found = read_source(engine, Wanted(model=str(model)))
    assert found.recipe["quantize"]["method"] == method
    assert found.recipe["quantize"].get("format") == name
    place = "pretrained_config.quantization.quant_algo"
    assert notes_of(found, "lost").keys() == {f"{place}{suffix}" for suffix in lost}


def test_quantized_model_source_is_served_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "fp8-model"
    source.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "fp8"}}
    (source / "config.json").write_text(json.dumps(config))
    found = read_source(write_engine(tmp_path / "engine"), Wanted(model=str(source), backend="pytorch"))
    assert found.recipe["quantize"] == {"method": "prequantized"}


def test_without_a_model_the_hub_models_of_that_shape_are_named(tmp_path: Path) -> None:
    known = bundled_model("meta-llama/Llama-3.1-8B")
    assert known is not None
    shape = {key: value for key, value in known.config.items() if isinstance(value, int)}
    engine = write_engine(tmp_path / "engine", pretrained_config=checkpoint_config(**shape))
    with pytest.raises(RecipeError, match="does not say which model it was made from") as caught:
        migrate_path(engine, Wanted())
    assert "--model hf://org/name@REVISION" in caught.value.findings[0].hint
    assert "meta-llama/Llama-3.1-8B" in caught.value.findings[0].hint


def test_near_shape_is_no_candidate(tmp_path: Path) -> None:
    known = bundled_model("meta-llama/Llama-3.1-8B")
    assert known is not None
    shape = {key: value for key, value in known.config.items() if isinstance(value, int)} | {
        "vocab_size": 128_257
    }
    engine = write_engine(tmp_path / "engine", pretrained_config=checkpoint_config(**shape))
    assert read_source(engine, Wanted()).candidates == ()


def test_checkpoint_becomes_a_recipe(tmp_path: Path, model: Path) -> None:
    checkpoint = tmp_path / "ckpt-tp2"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(json.dumps(checkpoint_config()))
    for rank in range(2):
        (checkpoint / f"rank{rank}.safetensors").write_bytes(b"weights")
    found = migrate_path(checkpoint, Wanted(model=str(model)))
    recipe = checked(found, tmp_path)
    assert (recipe.name, recipe.layout.tp, recipe.quantize.format) == ("ckpt-tp2", 2, "fp8")
    # A checkpoint has no sizes: those of trtllm-build, and the model's own limit.
    assert (recipe.engine.max_batch_size, recipe.engine.max_num_tokens, recipe.engine.max_seq_len) == (
        2048,
        8192,
        4096,
    )
    assert {"max_batch_size", "max_num_tokens", "max_seq_len", "engine.tensorrt_llm"} <= notes_of(
        found, "assumed"
    ).keys()


def test_several_machines(tmp_path: Path, model: Path) -> None:
    mapping = {"world_size": 16, "tp_size": 4, "pp_size": 4, "gpus_per_node": 8}
    engine = write_engine(
        tmp_path / "engine", pretrained_config=checkpoint_config(mapping=mapping), ranks=tuple(range(16))
    )
    layout = read_source(engine, Wanted(model=str(model))).recipe["layout"]
    assert layout == {"nodes": 2, "gpus_per_node": 8, "tp": 4, "pp": 4}


def test_engine_older_than_its_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"builder_config": {"name": "llama"}, "plugin_config": {}})
    )
    with pytest.raises(RecipeError, match=r"older than 0\.9"):
        migrate_path(tmp_path, Wanted())


@pytest.mark.parametrize(
    ("build", "lost"),
    [
        ({"max_num_tokens": 10**30}, "build_config.max_num_tokens"),
        ({"max_beam_width": 10**30}, "build_config.max_beam_width"),
        ({"plugin_config": {"gemm_plugin": "\ud800\n"}}, "build_config.plugin_config.gemm_plugin"),
        ({"plugin_config": {"tokens_per_block": [1]}}, "build_config.plugin_config.tokens_per_block"),
    ],
)
def test_value_that_no_recipe_can_hold_is_lost(
    tmp_path: Path, model: Path, build: dict[str, Any], lost: str
) -> None:
    found = migrate_path(write_engine(tmp_path / "engine", build=build), Wanted(model=str(model)))
    assert lost in notes_of(found, "lost")
    checked(found, tmp_path)


def test_engine_config_that_contradicts_itself(tmp_path: Path) -> None:
    mapping = {"world_size": 3, "tp_size": 2, "pp_size": 1}
    config = engine_config(pretrained_config=checkpoint_config(mapping=mapping))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match="world_size is 3"):
        migrate_path(tmp_path, Wanted())


@pytest.mark.parametrize("version", ["0.21.0", "1.0.0", "1.1.0", "1.2.0"])
def test_engine_stays_on_a_version_that_an_image_serves(tmp_path: Path, model: Path, version: str) -> None:
    engine = write_engine(tmp_path / "engine", version=version)
    found = migrate_path(engine, Wanted(model=str(model)))
    assert checked(found, tmp_path).engine.tensorrt_llm == version
    assert "version" not in notes_of(found, "changed")
    # The LLM API arguments of most of these versions are not known.
    moved = migrate_path(engine, Wanted(model=str(model), backend="pytorch")).recipe["engine"]["tensorrt_llm"]
    assert moved == ("1.2.0" if version == "1.2.0" else "1.2.1")


def test_engine_older_than_every_known_version_is_not_called_unheard_of(tmp_path: Path, model: Path) -> None:
    plugins = {"plugin_config": {"enable_xqa": True}}  # its default
    engine = write_engine(tmp_path / "engine", version="0.13.0", build=plugins)
    found = migrate_path(engine, Wanted(model=str(model)))
    assert not notes_of(found, "lost")
    assert "no Triton image that can be used" in notes_of(found, "changed")["version"].message
