"""Which part of the model one GPU holds: pipeline stages, and shares under TP, EP and attention DP.

Follows TensorRT-LLM's PyTorch backend: tensorrt_llm/mapping.py (stages, experts), _torch/modules/linear.py
(rows and columns), modeling_utils.py (the head is whole under attention DP), modeling_deepseekv3.py (dense
FFN and shared experts are whole under attention DP, the embedding always). Shares that do not divide are
rounded up: the largest rank counts.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bwdeploy.model.shape import Attention, ModelShape, Weight
    from bwdeploy.recipe.schema import Layout

_WHOLE_EMBEDDING = frozenset({"deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe"})
"""Families whose embedding TensorRT-LLM keeps whole on every rank; others split it by vocabulary."""
_KEY_OR_VALUE = ("k_proj", "v_proj", "key", "value", "k", "v")
_FUSED_QKV = ("qkv_proj", "query_key_value", "qkv", "Wqkv", "c_attn")


class Stage(NamedTuple):
    """One pipeline stage."""

    first: int
    """Its first layer."""
    end: int
    """One behind its last layer."""
    is_first: bool
    is_last: bool

    @property
    def layers(self) -> range:
        """Indices of its layers."""
        return range(self.first, self.end)


class Share(NamedTuple):
    """What one GPU holds of a group of weights."""

    rows: int
    columns: int
    copies: int
    """In each layer."""


def pipeline_stages(layers: int, pp: int, partition: tuple[int, ...] | None = None) -> tuple[Stage, ...]:
    """The stages; the first (layers mod pp) hold one layer more. Empty with fewer layers than stages.

    Source: tensorrt_llm/mapping.py, pp_layers.
    """
    if pp > max(layers, 1) or (partition and (len(partition) != pp or sum(partition) != layers)):
        return ()
    whole, rest = divmod(layers, pp)
    counts = partition or tuple(whole + (1 if stage < rest else 0) for stage in range(pp))
    ends = [sum(counts[: stage + 1]) for stage in range(pp)]
    return tuple(
        Stage(end - count, end, is_first=stage == 0, is_last=stage == pp - 1)
        for stage, (count, end) in enumerate(zip(counts, ends, strict=True))
    )


def layers_held(weight: Weight, stage: Stage) -> int:
    """How many of the group's layers a stage holds; of a weight outside layers, 1 or 0.

    Embeddings and vision stand on the first stage, the head, the last norm and draft layers on the last.
    """
    if weight.mtp:
        return max(1, len(weight.layers)) if stage.is_last else 0
    if weight.layers:
        return bisect_left(weight.layers, stage.end) - bisect_left(weight.layers, stage.first)
    at_the_end = weight.role in {"head", "norm"}
    return int(stage.is_last if at_the_end else stage.is_first)


def share(weight: Weight, *, shape: ModelShape, layout: Layout, slots: int | None = None) -> Share:
    """The share of one GPU in each tensor of a group; `slots` as `settings.expert_slots`."""
    copies = weight.copies
    ways = attention_ways(layout)
    if weight.role == "expert" or (weight.copies > 1 and weight.role == "bias"):
        ways = max(1, layout.tp // layout.ep)
        copies = -(-max(weight.copies, slots or 0) // layout.ep)
    elif weight.role == "embedding":
        ways = 1 if shape.model_type in _WHOLE_EMBEDDING else ways
    elif weight.role == "vision":
        ways = 1
    if weight.split == "rows":
        return Share(_rows(weight, shape, ways), weight.columns, copies)
    if weight.split == "columns":
        return Share(weight.rows, -(-weight.columns // ways), copies)
    return Share(weight.rows, weight.columns, copies)


def attention_ways(layout: Layout) -> int:
    """GPUs that share a layer's attention (and dense FFN): tp, or 1 under attention DP."""
    return 1 if layout.attention_dp else layout.tp


def kv_heads_per_gpu(attention: Attention, layout: Layout) -> int:
    """KV heads of one GPU: never less than one, so that they are held several times when tp is larger."""
    return -(-attention.kv_heads // attention_ways(layout))


def _rows(weight: Weight, shape: ModelShape, ways: int) -> int:
    """Rows of a share; key and value heads are whole on each rank."""
    attention = _grouped_attention(weight, shape)
    name = weight.module.removesuffix(".bias").rpartition(".")[2]
    if attention is not None and ways > attention.kv_heads:
        if name in _KEY_OR_VALUE:
            return -(-weight.rows // attention.kv_heads)
        if name in _FUSED_QKV:
            queries = attention.heads * attention.head_dim
            return -(-queries // ways) + -(-(weight.rows - queries) // attention.kv_heads)
    return -(-weight.rows // ways)


def _grouped_attention(weight: Weight, shape: ModelShape) -> Attention | None:
    if not weight.layers or weight.role not in {"attention", "bias"}:
        return None
    layers = (*shape.layers, *shape.mtp_layers)
    first = weight.layers[0]
    attention = layers[first].attention if first < len(layers) else None
    return attention if attention is not None and attention.kind == "gqa" and attention.kv_heads else None
