"""Writes the files of an EAGLE3 draft with random weights, in ModelOpt's layout or in the public one."""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, VOCAB, DRAFTED, FFN = 64, 384, 96, 80
LAYERS = (1, 3, 4)
"""Of a target with 8 layers: what is captured by default."""


def draft_config(**changes: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "draft_vocab_size": DRAFTED,
        "rope_theta": 50000.0,
        "torch_dtype": "bfloat16",
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": list(LAYERS)},
        **changes,
    }


def draft_tensors() -> dict[str, Any]:
    torch = import_module("torch")
    generator = torch.Generator().manual_seed(0)

    def matrix(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(torch.bfloat16)

    first = {
        "hidden_norm": (HIDDEN,),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
        "self_attn.q_proj": (HIDDEN, 2 * HIDDEN),
        "self_attn.k_proj": (HIDDEN // 2, 2 * HIDDEN),
        "self_attn.v_proj": (HIDDEN // 2, 2 * HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (FFN, HIDDEN),
        "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
    }
    tensors = {f"layers.0.{name}.weight": matrix(*shape) for name, shape in first.items()}
    tensors |= {"fc.weight": matrix(HIDDEN, 3 * HIDDEN), "norm.weight": matrix(HIDDEN)}
    tensors["lm_head.weight"] = matrix(DRAFTED, HIDDEN)
    tensors["d2t"] = torch.arange(DRAFTED) * 3  # draft token n is token 4 n
    return tensors


def in_public_layout(tensors: dict[str, Any]) -> dict[str, Any]:
    """As most published drafts name them, with the inverse map."""
    torch = import_module("torch")
    t2d = torch.zeros(VOCAB, dtype=torch.bool)
    t2d[torch.arange(DRAFTED) + tensors["d2t"]] = True
    renamed = {re.sub(r"^layers\.0\.", "midlayer.", name): tensor for name, tensor in tensors.items()}
    return renamed | {"t2d": t2d}


def write_draft(directory: Path, config: dict[str, Any], tensors: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    import_module("safetensors.torch").save_file(tensors, directory / "model.safetensors")
    return directory
