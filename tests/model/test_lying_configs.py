"""Configurations that leave keys out, contradict themselves, or speak of layers that are not known."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from bwdeploy.facts.model_configs import bundled_model
from bwdeploy.model.families import ShapeError, read_shape
from bwdeploy.model.shape import ModelShape

GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "torch_dtype": "bfloat16",
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
        "num_hidden_layers": 34, "sliding_window": 1024,
    },
    "vision_config": {
        "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "num_attention_heads": 16,
        "num_hidden_layers": 27, "patch_size": 14,
    },
}  # fmt: skip
"""gemma-3-4b-it as published: the text model's heads and vocabulary are left out."""
WRONG: tuple[Any, ...] = (0, -1, 10**18, "x", True, [], [1, "a"], 1.5, float("nan"), {"a": 1})


def bundled(hub_id: str) -> dict[str, Any]:
    found = bundled_model(hub_id)
    assert found is not None
    return found.config


LLAMA = bundled("meta-llama/Llama-3.1-8B")
QWEN = bundled("Qwen/Qwen3-235B-A22B")
R1 = bundled("deepseek-ai/DeepSeek-R1")
MAVERICK = bundled("meta-llama/Llama-4-Maverick-17B-128E-Instruct")
GPT_OSS = bundled("openai/gpt-oss-120b")
SIZES = (
    "hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "moe_intermediate_size", "num_experts_per_tok", "kv_lora_rank",
    "qk_rope_head_dim", "max_position_embeddings",
)  # fmt: skip


def read(config: dict[str, Any], **changes: Any) -> ModelShape:
    return read_shape(config | changes, origin="test")


def without(config: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != key}


def test_keys_that_published_files_leave_out_are_those_of_transformers() -> None:
    one = read(GEMMA3)
    assert one.parameters == 4_300_079_472
    attention = one.layers[0].attention
    assert (attention.heads, attention.kv_heads, attention.head_dim, attention.span) == (8, 4, 256, 1024)
    assert one.vocab == 262_208


@pytest.mark.parametrize(
    "config",
    [LLAMA, without(QWEN, "intermediate_size"), R1, MAVERICK, GPT_OSS, GEMMA3],
    ids=lambda config: str(config["model_type"]),
)
def test_an_impossible_size_is_a_problem_that_names_it(config: dict[str, Any]) -> None:
    section = "text_config" if "text_config" in config else ""
    for key in SIZES:
        for value in WRONG:
            lying = copy.deepcopy(config)
            place = lying[section] if section else lying
            if key not in place:
                continue
            place[key] = value
            with pytest.raises(ShapeError, match=key):
                read(lying)


@pytest.mark.parametrize(
    ("config", "key", "named"),
    [
        (QWEN, "moe_intermediate_size", "moe_intermediate_size is missing"),
        (QWEN, "num_experts", "num_experts_per_tok speaks of experts"),
        (R1, "n_routed_experts", "num_experts_per_tok speaks of experts"),
        (R1, "moe_intermediate_size", "moe_intermediate_size is missing"),
        (R1, "kv_lora_rank", "kv_lora_rank is missing"),
        (R1 | {"index_n_heads": 64}, "index_head_dim", "index_head_dim is missing"),
    ],
)
def test_a_missing_key_of_experts_or_latents_is_a_problem(
    config: dict[str, Any], key: str, named: str
) -> None:
    for lying in (without(config, key), config | {key: None}):
        with pytest.raises(ShapeError, match=named):
            read(lying)


def test_first_dense_layers_of_deepseek_are_three_when_nothing_is_said() -> None:
    assert read(without(R1, "first_k_dense_replace")).weights == read(R1).weights


def test_expert_flags_of_another_length_are_a_problem() -> None:
    with pytest.raises(ShapeError, match="moe_layer_freq has 2 entries for 61 layers"):
        read(R1, moe_layer_freq=[0, 1])


def test_a_type_that_is_none_is_a_problem() -> None:
    with pytest.raises(ShapeError, match="torch_dtype is 'bfloat61'"):
        read(LLAMA, torch_dtype="bfloat61")
    assert read(LLAMA, torch_dtype="float8_e4m3fn").dtype == "bfloat16"


def test_only_the_experts_of_a_token_count_as_active_with_their_biases() -> None:
    one = read(GPT_OSS)
    tables = sum(weight.elements for weight in one.weights if weight.role == "embedding")
    assert one.parameters == 116_829_156_672
    assert one.active_parameters - tables == pytest.approx(5.13e9, rel=1e-3)


def test_prediction_layers_bring_tables_only_where_the_checkpoint_has_them() -> None:
    table = R1["vocab_size"] * R1["hidden_size"]
    shared = read(R1, architectures=["GlmMoeDsaForCausalLM"])
    assert read(R1).mtp_parameters - shared.mtp_parameters == 2 * table


@pytest.mark.parametrize("tied", [True, False])
def test_a_contradiction_about_the_head_is_said(*, tied: bool) -> None:
    text = {**GEMMA3["text_config"], "tie_word_embeddings": not tied}  # type: ignore[dict-item]
    one = read(GEMMA3, text_config=text, tie_word_embeddings=tied)
    assert one.tied_embeddings is tied
    assert any("tie_word_embeddings differs" in note for note in one.assumptions)


@pytest.mark.parametrize(
    "keys",
    [
        {"global_head_dim": 512}, {"swa_head_dim": 192}, {"conv_L_cache": 3}, {"multi_query": True},
        {"sparse_attention_config": {"topk": 1}}, {"layer_types": ["linear_attention"] * 32},
    ],
    ids=lambda keys: next(iter(keys)),
)  # fmt: skip
def test_layers_that_the_usual_keys_do_not_describe_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match=next(iter(keys))) as raised:
        read(LLAMA, architectures=["NewForCausalLM"], **keys)
    assert raised.value.kind == "unknown-architecture"


def test_a_model_that_sees_without_its_vision_keys_says_so() -> None:
    one = read(json.loads(json.dumps(without(GEMMA3, "vision_config"))))
    assert any("no vision_config" in note for note in one.assumptions)


def test_a_type_of_the_whole_model_keeps_what_else_was_assumed() -> None:
    text = without(GEMMA3, "architectures")["text_config"] | {"mtp_num_hidden_layers": 1}
    notes = read(GEMMA3, text_config=text).assumptions
    assert any("multi-token prediction" in note for note in notes)
    assert not any("no dtype" in note for note in notes)
