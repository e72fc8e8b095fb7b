"""What the models share; upstream spreads it over modeling_utils.py and modules/attention.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tensorrt_llm._torch.modules.linear import Linear
from tensorrt_llm.mapping import Mapping

HIDDEN, INTERMEDIATE, LAYERS = 64, 128, 3


@dataclass
class ModelConfig:
    quant: str | None = "fp8"
    mapping: Mapping = field(default_factory=Mapping)


class Attention(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, quant: str | None) -> None:
        super().__init__()
        self.qkv_proj = Linear(HIDDEN, 3 * HIDDEN, quant=quant)
        self.o_proj = Linear(HIDDEN, HIDDEN, quant=quant)

    def forward(self, hidden_states: Any) -> Any:
        q, k, v = self.qkv_proj(hidden_states).chunk(3, dim=-1)
        return self.o_proj(q + k * v)


def embeddings(rows: int) -> Any:
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(rows)).to(torch.bfloat16)
