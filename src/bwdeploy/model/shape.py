"""The shape of a model: its layers, and every weight by module name, size and role. Data only.

`families` makes it from a `config.json`, `headers` from safetensors headers. Sizes are elements, never bytes:
bytes depend on the format of each module, which is the planner's concern.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Role = Literal[
    "embedding",
    "head",
    "attention",
    "attention_output",
    "ffn",
    "expert",
    "shared_expert",
    "router",
    "norm",
    "bias",
    "modulation",
    "vision",
    "other",
]
"""The module class of a weight. `attention` is every projection of a layer but the output projection;
`modulation` the adaptive norms of a diffusion transformer."""

Split = Literal["rows", "columns", "none"]
"""How tensor parallelism cuts a weight: output features, input features, or not at all."""


class Attention(NamedTuple):
    """Attention of one layer."""

    kind: Literal["gqa", "mla", "none"]
    """gqa covers one head each (MHA) and one for all (MQA); none: a layer without a KV cache."""
    heads: int = 0
    kv_heads: int = 0
    """Of an MLA layer: nominal, its cache holds one latent instead."""
    head_dim: int = 0
    """Of a key head."""
    value_dim: int = 0
    """Of a value head."""
    latent_dim: int = 0
    """MLA: cached elements of one token, kv_lora_rank + qk_rope_head_dim."""
    index_dim: int = 0
    """DeepSeek sparse attention: elements of the indexer's own key, cached beside the latent; 0 without."""
    span: int | None = None
    """Tokens that a layer looks back on: a sliding window or an attention chunk; None: all of them."""


class FeedForward(NamedTuple):
    """The feed-forward block of one layer."""

    kind: Literal["dense", "moe", "none"]
    width: int = 0
    """Of the dense block, or of one routed expert."""
    gated: bool = True
    """Three matrices (gate, up, down) rather than two."""
    experts: int = 0
    experts_per_token: int = 0
    shared_width: int = 0
    """Of all shared experts together; 0 without."""


class Layer(NamedTuple):
    """One transformer layer."""

    attention: Attention
    ffn: FeedForward


class Weight(NamedTuple):
    """A group of equal tensors: the same matrix in several layers, or in all experts of a layer."""

    module: str
    """Module name with `{layer}` and `{expert}` where they stand, without `.weight`:
    `model.layers.{layer}.mlp.experts.{expert}.down_proj`."""
    role: Role
    rows: int
    """Output features; the elements of a vector."""
    columns: int
    """Input features; 1 for a vector."""
    layers: tuple[int, ...] = ()
    """Indices of the layers that hold it, ascending; empty for a weight outside layers."""
    copies: int = 1
    """In each layer: the number of experts, else 1."""
    split: Split = "none"
    mtp: bool = False
    """Part of a multi-token prediction layer: served only when the recipe drafts with it."""

    @property
    def tensors(self) -> int:
        """How many tensors the group stands for."""
        return max(1, len(self.layers)) * self.copies

    @property
    def elements(self) -> int:
        """Of all tensors of the group."""
        return self.rows * self.columns * self.tensors

    @property
    def is_linear(self) -> bool:
        """Whether it is a matrix of a linear layer (an embedding is not)."""
        return self.columns > 1 and self.role not in {"embedding", "norm", "bias"}


class ModelShape(NamedTuple):
    """One model, whole."""

    architecture: str
    """`architectures[0]` of the configuration, or diffusers' `_class_name`."""
    model_type: str
    kind: Literal["decoder", "diffusion", "unknown"]
    """unknown: read from tensor headers alone, so that only the weights are known."""
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    """Without the multi-token prediction layers."""
    mtp_layers: tuple[Layer, ...]
    weights: tuple[Weight, ...]
    tied_embeddings: bool
    max_positions: int | None
    dtype: str
    """Of the weights that are not quantized: bfloat16, float16 or float32."""
    origin: str
    """Where it was read, for messages: `config.json`, `tensor headers of …`."""
    assumptions: tuple[str, ...] = ()
    """What was assumed because the configuration does not say; shown in the plan."""
    known: bool = True
    """Whether the layers of the architecture are known for certain; else it was read by the usual keys."""

    @property
    def parameters(self) -> int:
        """Of the served model, without multi-token prediction layers."""
        return sum(weight.elements for weight in self.weights if not weight.mtp)

    @property
    def mtp_parameters(self) -> int:
        """Of the multi-token prediction layers."""
        return sum(weight.elements for weight in self.weights if weight.mtp)

    @property
    def active_parameters(self) -> int:
        """That one text token meets: of the routed experts only those it is sent to, nothing of vision."""
        met = (weight for weight in self.weights if not weight.mtp and weight.role != "vision")
        return sum(self._active_elements(weight) for weight in met)

    def _active_elements(self, weight: Weight) -> int:
        routed = weight.role == "expert" or (weight.role == "bias" and weight.copies > 1)
        if not routed or not weight.layers or weight.layers[0] >= len(self.layers):
            return weight.elements
        ffn = self.layers[weight.layers[0]].ffn
        return weight.elements * ffn.experts_per_token // max(1, ffn.experts)
