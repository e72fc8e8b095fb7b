"""Shapes read from configurations: published totals, layer kinds, names, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.facts.model_configs import bundled_ids, bundled_model
from bwdeploy.model.families import ShapeError, read_shape
from bwdeploy.model.shape import Attention, ModelShape

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
MOE = LLAMA | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def shape(hub_id: str) -> ModelShape:
    found = bundled_model(hub_id)
    assert found is not None
    return read_shape(found.config, origin="test")


def read(**changes: Any) -> ModelShape:
    return read_shape(LLAMA | changes, origin="test")


def kv_elements(one: ModelShape) -> int:
    attention = [layer.attention for layer in one.layers]
    return sum(
        each.latent_dim or each.kv_heads * (each.head_dim + each.value_dim)
        for each in attention
        if each.kind != "none"
    )


GOLDENS = [
    ("deepseek-ai/DeepSeek-R1", 671_026_419_200, 37_552_290_304, 35_136),
    ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496, 70_553_706_496, 163_840),
    ("nvidia/Nemotron-4-340B-Instruct", 341_025_638_400, 341_025_638_400, 294_912),
    ("Qwen/Qwen3-32B", 32_762_123_264, 32_762_123_264, 131_072),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 401_583_781_376, 17_184_686_080, 98_304),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 108_641_793_536, 17_172_889_600, 98_304),
]


@pytest.mark.parametrize(("hub_id", "total", "active", "kv"), GOLDENS, ids=str)
def test_published_totals_are_met(hub_id: str, total: int, active: int, kv: int) -> None:
    one = shape(hub_id)
    assert one.parameters == pytest.approx(total, rel=1e-4)
    assert one.active_parameters == pytest.approx(active, rel=1e-4)
    assert kv_elements(one) == kv


@pytest.mark.parametrize(
    ("hub_id", "total"),
    [
        ("meta-llama/Llama-3.1-405B", 405_853_388_800),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("Qwen/Qwen3-235B-A22B", 235_093_634_560),
        ("openai/gpt-oss-120b", 116_829_156_672),
        ("mistralai/Mixtral-8x7B-v0.1", 46_702_792_704),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
    ],
)
def test_totals_of_the_published_checkpoints(hub_id: str, total: int) -> None:
    assert shape(hub_id).parameters == total


def test_deepseek_counts_its_mtp_layer_apart() -> None:
    one = shape("deepseek-ai/DeepSeek-R1")
    assert one.mtp_parameters == pytest.approx(13_463_426_304, rel=1e-4)
    assert len(one.layers) == 61
    assert len(one.mtp_layers) == 1


def test_llama_4_separates_its_vision_part() -> None:
    one = shape("meta-llama/Llama-4-Maverick-17B-128E-Instruct")
    vision = sum(weight.elements for weight in one.weights if weight.role == "vision")
    assert vision == pytest.approx(871_932_416, rel=1e-4)
    assert one.parameters - vision == pytest.approx(400_711_848_960, rel=1e-4)


def test_llama_4_alternates_experts_and_chunks() -> None:
    one = shape("meta-llama/Llama-4-Maverick-17B-128E-Instruct")
    assert [layer.ffn.kind for layer in one.layers[:4]] == ["dense", "moe", "dense", "moe"]
    assert [layer.attention.span for layer in one.layers[:4]] == [8192, 8192, 8192, None]
    assert {layer.ffn.width for layer in one.layers if layer.ffn.kind == "dense"} == {16384}
    assert {layer.ffn.width for layer in one.layers if layer.ffn.kind == "moe"} == {8192}


def test_flux_is_a_diffusion_transformer_with_modulation() -> None:
    one = shape("black-forest-labs/FLUX.1-dev")
    by_role: dict[str, int] = {}
    for weight in one.weights:
        by_role[weight.role] = by_role.get(weight.role, 0) + weight.elements
    assert one.kind == "diffusion"
    assert one.parameters == 11_901_408_320
    assert by_role["modulation"] == 3_227_516_928
    assert by_role["attention"] + by_role["attention_output"] + by_role["ffn"] == 8_606_711_808
    assert kv_elements(one) == 0


def test_gpt_oss_slides_in_every_second_layer() -> None:
    spans = [layer.attention.span for layer in shape("openai/gpt-oss-120b").layers]
    assert spans == [128, None] * 18


def test_every_bundled_id_has_a_known_shape() -> None:
    for hub_id in bundled_ids():
        one = shape(hub_id)
        assert one.known, hub_id
        assert len({(weight.module, weight.layers, weight.mtp) for weight in one.weights}) == len(one.weights)


def test_latent_attention_without_query_compression() -> None:
    latent = {
        "architectures": ["DeepseekV2ForCausalLM"], "q_lora_rank": None, "kv_lora_rank": 16,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    }  # fmt: skip
    one = read(**latent)
    assert one.layers[0].attention == Attention(
        "mla", heads=4, kv_heads=2, head_dim=12, value_dim=8, latent_dim=20
    )
    names = {weight.module.rpartition(".")[2] for weight in one.weights}
    assert "q_proj" in names
    assert "q_a_proj" not in names


def test_qwen_places_experts_by_step_and_exceptions() -> None:
    one = read_shape(
        MOE | {"architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 2, "mlp_only_layers": [3]},
        origin="test",
    )
    assert [layer.ffn.kind for layer in one.layers] == ["dense", "moe", "dense", "dense"]


def test_qwen_2_moe_has_a_shared_expert_with_a_gate() -> None:
    one = read_shape(
        MOE | {"architectures": ["Qwen2MoeForCausalLM"], "shared_expert_intermediate_size": 48}, origin="test"
    )
    modules = {weight.module for weight in one.weights}
    assert one.layers[0].ffn.shared_width == 48
    assert "model.layers.{layer}.mlp.shared_expert.down_proj" in modules
    assert "model.layers.{layer}.mlp.shared_expert_gate" in modules
    assert "model.layers.{layer}.mlp.experts.{expert}.gate_proj" in modules


@pytest.mark.parametrize(
    ("changes", "spans"),
    [
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 64}, [64] * 4),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, [None] * 4),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 4096}, [None] * 4),
        ({"architectures": ["Gemma2ForCausalLM"], "sliding_window": 64}, [64, None, 64, None]),
        (
            {"architectures": ["Gemma3ForCausalLM"], "sliding_window": 64, "sliding_window_pattern": 3},
            [64, 64, None, 64],
        ),
        (
            {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 64, "use_sliding_window": False},
            [None] * 4,
        ),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "sliding_window": 64,
                "use_sliding_window": True,
                "max_window_layers": 3,
            },
            [None, None, None, 64],
        ),
        (
            {
                "architectures": ["Olmo3ForCausalLM"],
                "sliding_window": 64,
                "layer_types": ["full_attention", "sliding_attention"] * 2,
            },
            [None, 64, None, 64],
        ),
    ],
)
def test_how_far_each_layer_looks_back(changes: dict[str, Any], spans: list[int | None]) -> None:
    assert [layer.attention.span for layer in read(**changes).layers] == spans


def test_tied_embeddings_have_no_head() -> None:
    tied, untied = read(tie_word_embeddings=True), read(tie_word_embeddings=False)
    assert untied.parameters - tied.parameters == 1000 * 64
    assert not any(weight.role == "head" for weight in tied.weights)


def test_ungated_blocks_have_two_matrices() -> None:
    one = read(architectures=["NemotronForCausalLM"])
    names = {weight.module.rpartition(".")[2] for weight in one.weights if weight.role == "ffn"}
    assert names == {"up_proj", "down_proj"}
    assert not one.layers[0].ffn.gated


def test_layers_without_a_cache_have_no_attention() -> None:
    config = {
        "architectures": ["NemotronHForCausalLM"], "hidden_size": 64, "num_hidden_layers": 4,
        "hybrid_override_pattern": "M*-M", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "intermediate_size": 128, "vocab_size": 1000, "mamba_num_heads": 8, "mamba_head_dim": 16,
        "n_groups": 2, "ssm_state_size": 8, "conv_kernel": 4,
    }  # fmt: skip
    one = read_shape(config, origin="test")
    assert [layer.attention.kind for layer in one.layers] == ["none", "gqa", "none", "none"]
    assert [layer.ffn.kind for layer in one.layers] == ["none", "none", "dense", "none"]


def test_eagle_draft_reads_two_inputs() -> None:
    one = read(architectures=["LlamaForCausalLMEagle3"], num_hidden_layers=1, draft_vocab_size=100)
    sizes = {weight.module: (weight.rows, weight.columns) for weight in one.weights}
    assert sizes["fc"] == (64, 3 * 64)
    assert sizes["midlayer.self_attn.q_proj"] == (64, 2 * 64)
    assert sizes["lm_head"] == (100, 64)


def test_unknown_architecture_is_read_by_the_usual_keys_and_says_so() -> None:
    one = read(architectures=["FooForCausalLM"])
    assert not one.known
    assert one.assumptions[0].startswith("the architecture FooForCausalLM is not known here")
    assert one.parameters == read().parameters


def test_model_type_alone_is_enough() -> None:
    assert read(architectures=None, model_type="llama").parameters == read().parameters


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"hidden_size": None}, "missing-field", "hidden_size"),
        ({"hidden_size": 64.0}, "impossible-value", "hidden_size"),
        ({"hidden_size": "64"}, "impossible-value", "hidden_size"),
        ({"hidden_size": 0}, "impossible-value", "hidden_size"),
        ({"hidden_size": 2**40}, "impossible-value", "hidden_size"),
        ({"num_hidden_layers": True}, "impossible-value", "num_hidden_layers"),
        ({"num_hidden_layers": 10**9}, "impossible-value", "num_hidden_layers"),
        ({"num_key_value_heads": 3}, "impossible-value", "num_key_value_heads"),
        ({"num_attention_heads": 6}, "impossible-value", "num_attention_heads"),
        ({"tie_word_embeddings": "yes"}, "impossible-value", "tie_word_embeddings"),
        ({"text_config": []}, "impossible-value", "text_config"),
        ({"text_config": {}}, "missing-field", "text_config.hidden_size"),
        ({"architectures": ["BertModel"]}, "not-a-language-model", "architectures"),
        ({"architectures": ["CLIPModel"]}, "not-a-language-model", "architectures"),
        ({"architectures": ["ViTForImageClassification"]}, "not-a-language-model", "architectures"),
        ({"is_encoder_decoder": True}, "not-a-language-model", "architectures"),
        ({"_class_name": "UNet2DConditionModel"}, "unknown-architecture", "_class_name"),
        ({"architectures": ["FooForCausalLM"], "hidden_size": None}, "unknown-architecture", "architectures"),
        ({"architectures": ["FooForCausalLM"], "mamba_d_state": 4}, "unknown-architecture", "architectures"),
        ({"layer_types": ["new_attention"] * 4, "sliding_window": 8}, "unknown-architecture", "layer_types"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], kind: str, field: str) -> None:
    with pytest.raises(ShapeError) as caught:
        read(**changes)
    assert (caught.value.kind, caught.value.field) == (kind, field)
    assert caught.value.message
    assert caught.value.hint
