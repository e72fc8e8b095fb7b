"""Which models of transformers have decoder layers that the ops can take over, and why others have not.

A layer qualifies when its forward is: norm, attention, add, norm, MLP, add; its norm multiplies the rounded
x * rsqrt(mean(x * x) + eps) by the weight; and its MLP is down(act(gate(x)) * up(x)). Read in transformers
4.57, 5.14 and 5.17, where these are the same. Modules are named by class, so a subclass with another
forward is never mistaken for one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

TRANSFORMERS = ((4, 57), (6, 0))
"""First release that was read, and the first that nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerClasses:
    """Names of the classes that a decoder layer is made of."""

    layer: str
    norm: str
    mlp: str


def _named(prefix: str) -> LayerClasses:
    return LayerClasses(layer=f"{prefix}DecoderLayer", norm=f"{prefix}RMSNorm", mlp=f"{prefix}MLP")


REPLACEABLE = {
    "llama": _named("Llama"),
    "ministral": _named("Ministral"),
    "mistral": _named("Mistral"),
    "qwen2": _named("Qwen2"),
    "qwen3": _named("Qwen3"),
    "smollm3": _named("SmolLM3"),
}
"""`model_type` of config.json → its classes."""

_EXPERTS = (
    "its router reads the normed values that its experts read rounded, and each expert has its own scale"
)
_SANDWICH = "it norms the outputs of attention and MLP before it adds them"
_GEMMA = "its norm multiplies by 1 + weight in float32"

NOT_REPLACEABLE = {
    "cohere": "its norm is a LayerNorm, and attention and MLP run side by side",
    "deepseek_v3": _EXPERTS,
    "gemma": _GEMMA,
    "gemma2": f"{_GEMMA}, and {_SANDWICH}",
    "gemma3_text": f"{_GEMMA}, and {_SANDWICH}",
    "glm4": _SANDWICH,
    "gpt_oss": _EXPERTS,
    "granite": "it multiplies what it adds to the residual",
    "llama4_text": _EXPERTS,
    "mixtral": _EXPERTS,
    "nemotron": "its norm is a LayerNorm with 1 + weight",
    "olmo2": _SANDWICH,
    "phi3": "q, k and v, and gate and up, are one linear layer each",
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "starcoder2": "its norm is a LayerNorm",
}
"""`model_type` → the reason."""
