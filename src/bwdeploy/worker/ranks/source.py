"""The model as its own configuration describes it, and what a rank checkpoint of it must say.

Reads the configuration through transformers, so that defaults are the model's own, and answers for versions
4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`) alike. Knows the four architectures of
`facts.rank_export`; nothing here reads a weight.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import ToolError
from bwdeploy.facts.rank_export import RankSizes

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_ROPE_THETA = 10000.0
_QWEN_SEQ_LENGTH = 8192
"""What TensorRT-LLM writes for a Qwen that names no seq_length."""


class SourceModel(NamedTuple):
    """What the engine's configuration is derived from."""

    architecture: str
    model_type: str
    sizes: RankSizes
    vocab: int
    max_positions: int
    activation: str
    norm_epsilon: float
    rope_theta: float
    rope_scaling: dict[str, Any] | None
    """With `rope_type`; None when positions are not scaled."""
    attention_bias: bool
    mlp_bias: bool
    tied: bool


def read_source(directory: Path, *, trust_remote_code: bool) -> SourceModel:
    """The model that `directory`/config.json describes.

    Raises:
        ToolError: transformers cannot read it, or it is no decoder with attention and feed-forward layers.
    """
    transformers = import_module("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        return describe(config)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ToolError(f"The configuration of {directory} cannot be read: {error}.") from error


def describe(config: Any) -> SourceModel:  # noqa: ANN401 - a transformers configuration
    """The model of a transformers configuration."""
    heads = config.num_attention_heads
    theta, scaling = _rope(config)
    return SourceModel(
        architecture=(getattr(config, "architectures", None) or [""])[0],
        model_type=config.model_type,
        sizes=RankSizes(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            ffn=config.intermediate_size,
        ),
        vocab=config.vocab_size,
        max_positions=config.max_position_embeddings,
        activation=config.hidden_act,
        norm_epsilon=config.rms_norm_eps,
        rope_theta=theta,
        rope_scaling=scaling,
        # Qwen 2 has biases without a word for them, on q, k and v only.
        attention_bias=config.model_type == "qwen2" or bool(getattr(config, "attention_bias", False)),
        mlp_bias=bool(getattr(config, "mlp_bias", False)),
        tied=bool(getattr(config, "tie_word_embeddings", False)),
    )


def engine_config(model: SourceModel, *, tp: int, pp: int) -> dict[str, Any]:
    """All that config.json of a rank checkpoint must say about the model itself."""
    sizes = model.sizes
    config: dict[str, Any] = {
        "architecture": model.architecture,
        "dtype": "bfloat16",
        "logits_dtype": "float32",
        "vocab_size": model.vocab,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_size": sizes.head_size,
        "max_position_embeddings": model.max_positions,
        "hidden_act": model.activation,
        "norm_epsilon": model.norm_epsilon,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": model.rope_theta,
        "rotary_scaling": model.rope_scaling,
        "attn_bias": model.attention_bias,
        "mlp_bias": model.mlp_bias,
        "qk_layernorm": model.model_type == "qwen3",
        "tie_word_embeddings": model.tied,
        # Stages of a pipeline cannot share: the table is on the first, the head on the last.
        "share_embedding_table": model.tied and pp == 1,
        "mapping": {"world_size": tp * pp, "tp_size": tp, "pp_size": pp},
    }
    if model.model_type.startswith("qwen"):
        config |= {"qwen_type": model.model_type, "seq_length": _QWEN_SEQ_LENGTH}
    return config


def _rope(config: Any) -> tuple[float, dict[str, Any] | None]:  # noqa: ANN401
    parameters = dict(getattr(config, "rope_parameters", None) or {})
    theta = parameters.pop("rope_theta", None) or getattr(config, "rope_theta", None) or DEFAULT_ROPE_THETA
    scaling = parameters or dict(getattr(config, "rope_scaling", None) or {})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    return float(theta), None if kind == "default" else scaling | {"rope_type": kind}
