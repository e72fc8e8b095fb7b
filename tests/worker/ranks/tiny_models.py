"""Tiny random models of the four architectures that can be cut into ranks, with a tokenizer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.worker.tiny_llama import make_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_theta": 50000.0}),
    "llama_tied": ("Llama", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "vocab_size": 385}),
    "mistral": ("Mistral", {"head_dim": 32, "rms_norm_eps": 1e-5}),
    "qwen2": ("Qwen2", {"rope_theta": 1000000.0, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
}
"""Class prefix in transformers, and what differs from the common sizes."""


class Made(NamedTuple):
    """A checkpoint of a tiny model: quantized where a format is given, and cut; pp 0: the unified layout."""

    model: str
    format: str | None = None
    kv_cache: str = "none"
    tp: int = 1
    pp: int = 1


def slow(*made: Made) -> list[Any]:
    """Parameters of a test that the default suite leaves out."""
    return [pytest.param(one, marks=pytest.mark.slow) for one in made]


def make_tiny(directory: Path, word: str, **changes: Any) -> Path:
    """Write the model `word` of `MODELS` (bf16) with a tokenizer into `directory`."""
    torch = import_module("torch")
    transformers = import_module("transformers")
    make_tokenizer(directory)
    kind, own = MODELS[word]
    settings: dict[str, Any] = {
        "vocab_size": 384,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        **own,
        **changes,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Wider than the default 0.02; biases and norms random too, so that a lost or swapped one shows.
            if parameter.dim() > 1:
                parameter.mul_(5.0)
            else:
                parameter.add_(torch.rand_like(parameter) * 0.5)
    model.to(torch.bfloat16).save_pretrained(directory)
    return directory
