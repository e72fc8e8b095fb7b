"""As tensorrt_llm/_torch/models/modeling_llama.py: a layer ends with the norm of the next one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tensorrt_llm._torch.models.modeling_auto import register_auto_model
from tensorrt_llm._torch.models.tiny import HIDDEN, INTERMEDIATE, LAYERS, Attention, ModelConfig, embeddings
from tensorrt_llm._torch.modules.gated_mlp import GatedMLP
from tensorrt_llm._torch.modules.rms_norm import RMSNorm


class LlamaDecoderLayer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, model_config: ModelConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.self_attn = Attention(model_config.quant)
        self.mlp = GatedMLP(hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, quant=model_config.quant)
        norm = {"hidden_size": HIDDEN, "eps": 1e-5, "dtype": torch.bfloat16}
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(**norm), RMSNorm(**norm)
        self.next_layer_layernorm: Any = None
        self.next_attn: Any = None
        mapping = model_config.mapping
        self.PRE_MLP_FUSION = mapping.has_tp() and not mapping.enable_attention_dp
        self.POST_MLP_FUSION = mapping.has_tp()

    def forward(self, hidden_states: Any, residual: Any) -> Any:
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        hidden_states = self.self_attn(hidden_states)
        if self.PRE_MLP_FUSION:
            hidden_states, residual = _all_reduce(hidden_states, residual, self.post_attention_layernorm)
        else:
            hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        hidden_states = self.mlp(hidden_states)
        if self.POST_MLP_FUSION:
            return _all_reduce(hidden_states, residual, self.next_layer_layernorm)
        return self.next_layer_layernorm(hidden_states, residual)


def _all_reduce(hidden_states: Any, residual: Any, norm: Any) -> Any:
    """AllReduce with AllReduceFusionOp.RESIDUAL_RMS_NORM: it reads the norm's weight and never calls it."""
    residual = residual + hidden_states
    return norm._norm(residual), residual


@register_auto_model("LlamaForCausalLM")
class LlamaForCausalLM(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, model_config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LlamaDecoderLayer(model_config, index) for index in range(LAYERS))
        self.norm = RMSNorm(hidden_size=HIDDEN, eps=1e-5, dtype=torch.bfloat16)

    def post_load_weights(self) -> None:
        layers: Any = self.layers
        for index, layer in enumerate(layers):
            last = index == LAYERS - 1
            layer.next_layer_layernorm = self.norm if last else layers[index + 1].input_layernorm
            layer.next_attn = None if last else layers[index + 1].self_attn

    def forward(self, rows: int) -> Any:
        hidden_states, residual = embeddings(rows), None
        for layer in self.layers:
            hidden_states, residual = layer(hidden_states, residual)
        return hidden_states
