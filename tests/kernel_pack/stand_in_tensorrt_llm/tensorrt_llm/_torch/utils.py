"""As tensorrt_llm/_torch/utils.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Fp4QuantizedTensor:
    fp4_tensor: Any
    scaling_factor: Any
    is_sf_swizzled: bool = True

    @property
    def shape(self) -> Any:
        return self.fp4_tensor.shape
