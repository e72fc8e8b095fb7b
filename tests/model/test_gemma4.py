"""Gemma 4: two kinds of heads, experts beside a dense block, and small models that are refused."""

from __future__ import annotations

import pytest

from bwdeploy.model.families import ShapeError, read_shape
from tests.model.test_families import LLAMA

GEMMA4 = LLAMA | {
    "architectures": ["Gemma4ForCausalLM"], "head_dim": 16, "global_head_dim": 32, "attention_k_eq_v": True,
    "num_global_key_value_heads": 1, "sliding_window": 128,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
}  # fmt: skip


def test_layers_of_gemma4_that_see_all_have_heads_of_their_own() -> None:
    one = read_shape(GEMMA4, origin="test")
    sizes = [(each.attention.kv_heads, each.attention.head_dim, each.attention.span) for each in one.layers]
    assert sizes == [(2, 16, 128), (2, 16, 128), (1, 32, None), (2, 16, 128)]
    values = [weight for weight in one.weights if weight.module.endswith("v_proj")]
    assert [weight.layers for weight in values] == [(0, 1, 3)]


def test_experts_of_gemma4_stand_beside_the_dense_block() -> None:
    experts = {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 32}
    one = read_shape(GEMMA4 | experts, origin="test")
    assert {(each.ffn.width, each.ffn.shared_width) for each in one.layers} == {(32, 128)}
    assert {weight.role for weight in one.weights} >= {"ffn", "expert", "router"}


@pytest.mark.parametrize("key", ["hidden_size_per_layer_input", "num_kv_shared_layers"])
def test_small_gemma4_is_refused(key: str) -> None:
    with pytest.raises(ShapeError, match=key) as raised:
        read_shape(GEMMA4 | {key: 4}, origin="test")
    assert raised.value.kind == "unknown-architecture"
