"""As tensorrt_llm/_torch/modules/rms_norm.py with FlashInfer: both tensors change in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class RMSNorm(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(
        self,
        *,
        hidden_size: int,
        eps: float,
        dtype: Any = None,
        device: Any = None,
        has_weights: bool = True,
        use_gemma: bool = False,
    ) -> None:
        super().__init__()
        assert has_weights
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype, device=device))
        self.variance_epsilon = eps
        self.use_gemma = use_gemma

    def forward(self, hidden_states: Any, residual: Any = ...) -> Any:
        return_residual = residual is not ...
        if isinstance(residual, torch.Tensor):
            residual.add_(hidden_states)
            hidden_states.copy_(self._norm(residual))
        else:
            hidden_states = self._norm(hidden_states)
        return (hidden_states, residual) if return_residual else hidden_states

    def _norm(self, rows: Any) -> Any:
        values = rows.float()
        values = values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (values * self.weight.float()).to(rows.dtype)
