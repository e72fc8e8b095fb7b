"""Memory of a step besides weights and cache: activations, logits, CUDA graphs, communication, the rest.

Activations are a bound for the widest moment of one layer, not a measurement. Graphs, communication buffers
and the runtime's own memory are figures of upstream projects, each with its source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.planner.memory.settings import drafting, graph_batch_sizes, moe_token_limit
from bwdeploy.planner.memory.sharding import attention_ways

if TYPE_CHECKING:
    from bwdeploy.model.shape import Attention, FeedForward, ModelShape
    from bwdeploy.recipe.schema import Layout, Recipe

_MIB = 2**20
_MB = 10**6
_FP32_BYTES = 4
_GRAPH_BYTES = 200 * _MB
"""Upper bound of one CUDA graph: tensorrt_llm/llmapi/llm_args.py, cuda_graph_config."""
_NCCL_MIB = ((1, 0), (2, 342), (4, 392), (8, 392))
"""Ranks and MiB: ai-dynamo/aiconfigurator, aiconfigurator_core/systems/*.yaml, nccl_mem."""
RUNTIME_BYTES = 3584 * _MIB
"""CUDA context, libraries, allocator: the same files, other_mem (3.5 GiB)."""


def activation_bytes(recipe: Recipe, shape: ModelShape) -> int:
    """The widest moment of a full step of max_num_tokens tokens, and the logits of a full batch.

    Two copies of the hidden state (the residual and the normed input) stand beside either attention's
    queries, keys, values and output, or the FFN's halves and their product, or the experts' workspace.
    """
    width = value_bytes(shape.dtype)
    tokens = recipe.engine.max_num_tokens
    layers = {(layer.attention, layer.ffn) for layer in shape.layers}
    widest = max(
        (
            max(
                tokens * attention_width(attention, recipe.layout),
                _ffn_values(recipe, shape.hidden, ffn),
            )
            for attention, ffn in layers
        ),
        default=0,
    )
    return (tokens * 2 * shape.hidden + widest) * width + logit_bytes(recipe, shape)


def one_gpu(layout: Layout) -> Layout:
    """The layout of a model that is not split."""
    return layout.model_copy(update={"tp": 1, "ep": 1, "attention_dp": False})


def attention_width(attention: Attention, layout: Layout) -> int:
    """Values of one token between a layer's norm and its output projection, on one GPU."""
    ways = attention_ways(layout)
    if attention.kind == "none":
        return 0
    heads = -(-attention.heads // ways)
    own = heads * (attention.head_dim + attention.value_dim)
    if attention.kind == "mla":  # prompts decompress keys and values for every head
        return 2 * own + attention.latent_dim
    return own + -(-attention.kv_heads // ways) * (attention.head_dim + attention.value_dim)


def ffn_width(ffn: FeedForward, ways: int) -> int:
    """Values of one token between the halves of a dense block: gate, up and their product."""
    return (3 if ffn.gated else 2) * -(-ffn.width // ways)


def logit_bytes(recipe: Recipe, shape: ModelShape) -> int:
    """Logits of each request's last tokens, in the model's type and in FP32 for sampling."""
    draft = drafting(recipe)
    rows = recipe.engine.max_batch_size * (1 + (draft.length if draft else 0))
    return min(rows, recipe.engine.max_num_tokens) * shape.vocab * (value_bytes(shape.dtype) + _FP32_BYTES)


def graph_bytes_limit(recipe: Recipe) -> int:
    """What all CUDA graphs take at most."""
    return len(graph_batch_sizes(recipe)) * _GRAPH_BYTES


def communication_bytes(ranks: int) -> int:
    """NCCL's buffers of one GPU."""
    mib = next((size for limit, size in _NCCL_MIB if ranks <= limit), _NCCL_MIB[-1][1])
    return mib * _MIB


def absorbed_bytes(shape: ModelShape, layers: range, layout: Layout) -> int:
    """MLA: TensorRT-LLM keeps the key half of kv_b_proj a second time, transposed.

    Source: tensorrt_llm/_torch/modules/attention.py, k_b_proj_trans. Counted in the model's 16-bit type.
    """
    rank = next((weight.columns for weight in shape.weights if weight.module.endswith("kv_b_proj")), 0)
    latent = [
        shape.layers[index].attention for index in layers if shape.layers[index].attention.kind == "mla"
    ]
    values = sum(
        attention.heads * (attention.head_dim - (attention.latent_dim - rank)) * rank for attention in latent
    )
    return values * value_bytes(shape.dtype) // attention_ways(layout)


def value_bytes(dtype: str) -> int:
    """Of one value that is not quantized."""
    return 4 if dtype == "float32" else 2


def _ffn_values(recipe: Recipe, hidden: int, ffn: FeedForward) -> int:
    tokens, layout = recipe.engine.max_num_tokens, recipe.layout
    if ffn.kind == "none":
        return 0
    if ffn.kind == "dense":
        return tokens * ffn_width(ffn, attention_ways(layout))
    # Attention DP gathers the tokens of all ranks before the experts. Each token is copied for each of its
    # experts, in and out; the CUTLASS workspace is sized for all of them on one rank.
    gathered = tokens * (layout.tp if layout.attention_dp else 1)
    rows = min(gathered, moe_token_limit(recipe) or gathered) * ffn.experts_per_token
    return rows * (2 * hidden + ffn_width(ffn, max(1, layout.tp // layout.ep)))
