"""As tensorrt_llm/_torch/modules/gated_mlp.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tensorrt_llm._torch.modules.linear import Linear
from tensorrt_llm._torch.modules.swiglu import swiglu


class GatedMLP(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, *, hidden_size: int, intermediate_size: int, quant: str | None) -> None:
        super().__init__()
        self.activation = functional.silu
        self.gate_up_proj = Linear(hidden_size, 2 * intermediate_size, quant=quant)
        self.down_proj = Linear(intermediate_size, hidden_size, quant=quant)

    def _apply_activation(self, x: Any, *, has_lora: bool = False) -> Any:
        if self.down_proj.has_fp8_qdq and not has_lora:
            return swiglu(x, quant_scale=self.down_proj.input_scale, quant_type=torch.float8_e4m3fn)
        return swiglu(x)

    def forward(
        self,
        x: Any,
        all_rank_num_tokens: Any = None,
        final_all_reduce_params: Any = None,
        lora_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        del all_rank_num_tokens, kwargs
        h1 = self.gate_up_proj(x)
        h2 = self._apply_activation(h1, has_lora=True) if lora_params else self._apply_activation(h1)
        return self.down_proj(h2, all_reduce_params=final_all_reduce_params)
