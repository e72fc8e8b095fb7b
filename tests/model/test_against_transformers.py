"""Shapes against the real thing: every weight of transformers' own models, built without memory.

transformers 5 keeps the experts of a layer in two fused tensors: these are compared by layer and block.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from bwdeploy.model.families import read_shape
from bwdeploy.model.shape import ModelShape

SMALL = {"num_hidden_layers": 4}
GEMMA4 = SMALL | {
    "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "global_head_dim": 512,
    "num_global_key_value_heads": 2, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 64,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}  # fmt: skip
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", SMALL | {"attention_bias": True, "mlp_bias": True}),
    ("llama", SMALL | {"num_key_value_heads": 1, "head_dim": 96, "tie_word_embeddings": True}),
    ("mistral", SMALL),
    ("qwen2", SMALL),
    ("qwen3", SMALL | {"attention_bias": True}),
    ("qwen2_moe", SMALL | {"decoder_sparse_step": 2}),
    ("qwen3_moe", SMALL | {"mlp_only_layers": [0, 2]}),
    ("qwen3_next", SMALL),
    ("qwen3_5_text", SMALL),
    ("qwen3_5_moe_text", SMALL),
    ("phi3", SMALL),
    ("phi", SMALL),
    ("phimoe", SMALL | {"attention_bias": True, "lm_head_bias": True}),
    ("gemma", SMALL),
    ("gemma2", SMALL),
    ("gemma3_text", SMALL),
    ("gemma4_text", GEMMA4),
    ("gemma4_text", GEMMA4 | {"attention_k_eq_v": True, "enable_moe_block": True}),
    ("granite", SMALL),
    ("granitemoe", SMALL),
    ("smollm3", SMALL),
    ("seed_oss", SMALL),
    ("olmo", SMALL),
    ("olmo2", SMALL | {"num_key_value_heads": 8}),
    ("olmo3", SMALL),
    ("olmoe", SMALL),
    ("glm", SMALL),
    ("glm4", SMALL),
    ("glm4_moe", SMALL | {"head_dim": 128, "use_qk_norm": True, "attention_bias": True}),
    ("glm4_moe_lite", SMALL),
    ("cohere", SMALL | {"use_qk_norm": True}),
    ("cohere2", SMALL),
    ("nemotron", SMALL | {"num_key_value_heads": 8, "head_dim": 128}),
    ("arcee", SMALL),
    ("starcoder2", SMALL),
    ("exaone4", SMALL),
    ("ernie4_5", SMALL | {"use_bias": True, "tie_word_embeddings": False}),
    ("gpt2", {"n_layer": 4}),
    ("gpt_neox", SMALL),
    ("mixtral", SMALL),
    ("minimax_m2", SMALL),
    ("deepseek_v2", SMALL | {"num_experts_per_tok": 2, "n_routed_experts": 8, "n_shared_experts": 2}),
    ("deepseek_v2", SMALL | {"num_experts_per_tok": 2, "q_lora_rank": None, "attention_bias": True}),
    ("deepseek_v3", SMALL | {"first_k_dense_replace": 2, "attention_bias": True}),
    ("deepseek_v32", SMALL),
    ("llama4_text", SMALL | {"interleave_moe_layer_step": 2}),
    ("gpt_oss", SMALL),
    ("nemotron_h", {}),
    ("nemotron_h", {"moe_latent_size": 256, "mlp_bias": False}),
]


def real_sizes(model: Any, *, tied: bool) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for name, tensor in model.state_dict().items():
        if not (tied and name.startswith(("lm_head.", "embed_out."))):
            sizes[module_of(name)] += tensor.numel()
    return sizes


def read_sizes(shape: ModelShape) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for weight in shape.weights:
        for layer in weight.layers or (0,):
            if not weight.mtp:
                name = weight.module.replace("{layer}", str(layer))
                sizes[module_of(name)] += weight.rows * weight.columns * weight.copies
    return sizes


def module_of(name: str) -> str:
    """One spelling for both: the root's name aside, a layer's whole expert block under one name."""
    name = name.removesuffix(".weight").removeprefix("backbone.").removeprefix("model.")
    expert = re.match(r"layers\.(\d+)\.(mlp|block_sparse_moe|feed_forward|mixer)\.", name)
    inside = name[expert.end() :] if expert else ""
    if expert and re.match(r"experts|gate$|gate\.|router|e_score|input_linear|output_linear", inside):
        return f"layers.{expert[1]}.experts"
    return "lm_head" if name == "embed_out" else name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "changes"), CASES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(CASES)]
)
def test_every_weight_is_that_of_transformers(model_type: str, changes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(model_type, **changes)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    written = json.loads(config.to_json_string()) | {"architectures": [type(model).__name__]}
    shape = read_shape(written, origin="test")
    real = real_sizes(model, tied=shape.tied_embeddings)
    assert shape.known
    assert sum(real.values()) == shape.parameters
    assert read_sizes(shape) == real


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama4", "gemma3", "qwen3_vl", "qwen3_vl_moe", "qwen3_5"])
def test_every_vision_weight_is_that_of_transformers(family: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family)
    config.vision_config.vision_use_head = False  # as every published Gemma 3
    config.text_config.num_hidden_layers = 4
    if hasattr(config.text_config, "layer_types"):
        config.text_config.layer_types = config.text_config.layer_types[:4]
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    written = json.loads(config.to_json_string(use_diff=False)) | {"architectures": [type(model).__name__]}
    shape = read_shape(written, origin="test")
    real = sum(
        tensor.numel()
        for name, tensor in model.state_dict().items()
        if re.search(r"vision|visual|multi_modal_projector", name)
    )
    assert sum(weight.elements for weight in shape.weights if weight.role == "vision") == real
