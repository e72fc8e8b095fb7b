"""As tensorrt_llm/_torch/modules/swiglu.py: one kernel, with rounding to FP8 where a scale is given."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


def swiglu(x: Any, quant_scale: Any = None, quant_type: Any = None) -> Any:
    gate, up = x.chunk(2, dim=-1)
    result = functional.silu(gate.float()) * up.float()
    if quant_scale is None:
        return result.to(x.dtype)
    assert quant_type is torch.float8_e4m3fn
    return (result / quant_scale).clamp(-448, 448).to(quant_type)
