"""The shape of a dense decoder-only model, read from its `config.json`. Pure.

Only architectures whose layer is known for certain are read: the Llama family. For any other the answer is
None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LLAMA_LIKE = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
_QKV_BIAS = frozenset({"Qwen2ForCausalLM"})
_HEAD_NORMS = frozenset({"Qwen3ForCausalLM"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes of one model; counts are elements, not bytes."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied_embeddings: bool

    @property
    def attention_elements(self) -> int:
        """Of q, k, v and o in one layer: matrices only."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def mlp_elements(self) -> int:
        """Of gate, up and down in one layer: matrices only."""
        return 3 * self.hidden * self.ffn

    @property
    def vector_elements(self) -> int:
        """Of norms and biases in the whole model."""
        per_layer = 2 * self.hidden
        if self.architecture in _QKV_BIAS:
            per_layer += self.head_dim * (self.heads + 2 * self.kv_heads)
        if self.architecture in _HEAD_NORMS:
            per_layer += 2 * self.head_dim
        return self.layers * per_layer + self.hidden

    @property
    def embedding_elements(self) -> int:
        """Of the token embedding and, when it is not the same matrix, the output head."""
        return self.vocab * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        matrices = self.layers * (self.attention_elements + self.mlp_elements)
        return matrices + self.vector_elements + self.embedding_elements


def read_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape in a Hugging Face configuration; None for an architecture that is not known here."""
    architecture = next(iter(config.get("architectures") or ()), "")
    if architecture not in _LLAMA_LIKE:
        return None
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return ModelShape(
        architecture=architecture,
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        ffn=int(config["intermediate_size"]),
        vocab=int(config["vocab_size"]),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )
