"""As tensorrt_llm/_torch/models/modeling_qwen3.py: a layer begins with its own norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tensorrt_llm._torch.models.modeling_auto import register_auto_model
from tensorrt_llm._torch.models.tiny import HIDDEN, INTERMEDIATE, LAYERS, Attention, ModelConfig, embeddings
from tensorrt_llm._torch.modules.gated_mlp import GatedMLP
from tensorrt_llm._torch.modules.rms_norm import RMSNorm


class Qwen3DecoderLayer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, model_config: ModelConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.self_attn = Attention(model_config.quant)
        self.mlp = GatedMLP(hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, quant=model_config.quant)
        norm = {"hidden_size": HIDDEN, "eps": 1e-5, "dtype": torch.bfloat16}
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(**norm), RMSNorm(**norm)

    def forward(self, hidden_states: Any, residual: Any) -> Any:
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(hidden_states)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


@register_auto_model("Qwen3ForCausalLM")
class Qwen3ForCausalLM(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, model_config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Qwen3DecoderLayer(model_config, index) for index in range(LAYERS))
        self.norm = RMSNorm(hidden_size=HIDDEN, eps=1e-5, dtype=torch.bfloat16)

    def forward(self, rows: int) -> Any:
        hidden_states, residual = embeddings(rows), None
        for layer in self.layers:
            hidden_states, residual = layer(hidden_states, residual)
        return self.norm(hidden_states, residual)[0]
