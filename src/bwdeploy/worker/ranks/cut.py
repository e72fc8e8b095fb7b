"""How a model is spread over the ranks of a checkpoint, read from its config.json.

Works for configurations that TensorRT-LLM wrote as well: where they are silent, its defaults hold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_MOST_RANKS = 4096
"""More is damage, not a deployment."""


class Cut(NamedTuple):
    """How the model is spread over the ranks, as config.json of the checkpoint says."""

    tp: int
    pp: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocab: int
    attention_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied: bool
    kv_cache: bool

    @property
    def stage_layers(self) -> int:
        """Layers of each stage."""
        return self.layers // self.pp

    @property
    def kv_copies(self) -> int:
        """How many neighboring ranks hold the same KV head."""
        return max(1, self.tp // self.kv_heads)

    @property
    def vocab_rows(self) -> int:
        """Of each rank, the last padded with zeros."""
        return -(-self.vocab // self.tp)


def cut_of(config: dict[str, Any]) -> Cut:
    """Read config.json of a rank checkpoint.

    Raises:
        KeyError, TypeError, ValueError: a field is missing or no number.
    """
    mapping, heads = config.get("mapping") or {}, int(config["num_attention_heads"])
    kind = str(config.get("qwen_type") or "")
    # TensorRT-LLM's own default differs: Qwen layers have biases unless the configuration says no.
    bias = bool(config.get("attn_bias", kind.startswith("qwen")))
    tp, pp = int(mapping.get("tp_size", 1)), int(mapping.get("pp_size", 1))
    if min(tp, pp, heads) < 1 or tp * pp > _MOST_RANKS:
        raise ValueError(f"tp_size {tp}, pp_size {pp}, num_attention_heads {heads}")
    return Cut(
        tp=tp,
        pp=pp,
        layers=int(config["num_hidden_layers"]),
        hidden=int(config["hidden_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_size") or int(config["hidden_size"]) // heads),
        ffn=int(config["intermediate_size"]),
        vocab=int(config["vocab_size"]),
        attention_bias=bias,
        output_bias=bias and not kind.startswith("qwen"),
        mlp_bias=bool(config.get("mlp_bias", False)),
        qk_norm=bool(config.get("qk_layernorm", kind == "qwen3")),
        tied=bool(config.get("tie_word_embeddings") or config.get("share_embedding_table")),
        kv_cache=bool((config.get("quantization") or {}).get("kv_cache_quant_algo")),
    )
