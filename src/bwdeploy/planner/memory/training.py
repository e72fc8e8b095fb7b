"""Memory of a GPU that trains a quantized model (QAT, QAD). Estimates, from what the backward pass keeps.

The forward pass is bf16 under autocast, on float32 weights and a float32 residual stream; quantized layers
keep their own rounded input. On one H100 the training of recipes/smollm2-135m-qad-eagle3.yaml, which does not
compute activations anew, took 10.99 GB at its peak (`peak_gpu_memory_bytes` of quantize.json).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.planner.memory.activations import attention_width, ffn_width, one_gpu, value_bytes
from bwdeploy.planner.weights.precision import may_be_quantized
from bwdeploy.recipe.schema import Training

if TYPE_CHECKING:
    from bwdeploy.model.shape import Layer, ModelShape
    from bwdeploy.recipe.schema import Layout, Recipe

_FP32_BYTES = 4
_BF16_BYTES = 2
_TRAINED_BYTES = 4 * _FP32_BYTES
"""Of one trained parameter under AdamW: weight, gradient and two moments."""
_LOGIT_BYTES = 22
"""Of one token's logit: the model's and the teacher's in bf16; in float32 both, their two log-softmaxes, and
the gradient."""
_NORM_BYTES = 2 * _FP32_BYTES
"""Of one value of a token: what goes into a norm, and what comes out."""
_ATTENTION_INPUTS = 3
"""Matrices that read a norm's output, each its own rounded copy: q, k and v."""


def training_bytes(recipe: Recipe, shape: ModelShape, *, gpus: int, checkpointing: bool) -> int:
    """Bytes on each of `gpus`; with `checkpointing` activations are computed anew in the backward pass."""
    training = recipe.quantize.training or Training()
    tokens = -(-training.batch_size // gpus) * training.seq_len
    linear = [weight for weight in shape.weights if may_be_quantized(weight)]
    trained = sum(weight.rows * weight.columns * weight.tensors for weight in linear)
    states = trained * _TRAINED_BYTES + (shape.parameters - trained) * _FP32_BYTES
    if recipe.quantize.method == "qad":
        states += shape.parameters * value_bytes(shape.dtype)
    alone = one_gpu(recipe.layout)
    layers = [_layer_bytes(layer, shape.hidden, alone) for layer in shape.layers]
    largest = max(layers, default=0)
    rounded = trained * _BF16_BYTES // max(1, len(layers))  # of one layer's weights
    if checkpointing:
        kept = tokens * (len(layers) * shape.hidden * _FP32_BYTES + largest) + rounded
    else:
        kept = tokens * sum(layers) + rounded * len(layers)
    gathered = 2 * trained * _FP32_BYTES // max(1, len(layers)) if gpus > 1 else 0
    return states // gpus + gathered + kept + tokens * shape.vocab * _LOGIT_BYTES


def _layer_bytes(layer: Layer, hidden: int, layout: Layout) -> int:
    """What one layer keeps of one token for the backward pass."""
    attention, ffn = layer.attention, layer.ffn
    read = attention_width(attention, layout) + attention.heads * attention.value_dim
    size = hidden * (_NORM_BYTES + _ATTENTION_INPUTS * _BF16_BYTES) + read * _BF16_BYTES
    if ffn.kind == "none":
        return size
    copies = ffn.experts_per_token if ffn.kind == "moe" else 1
    inputs = hidden * (2 if ffn.gated else 1)
    inner = copies * (inputs + ffn_width(ffn, 1) + ffn.width)
    return size + hidden * _NORM_BYTES + (inner + 4 * ffn.shared_width) * _BF16_BYTES
