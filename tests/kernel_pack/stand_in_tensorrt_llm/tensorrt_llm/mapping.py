"""How the model is spread, as tensorrt_llm/mapping.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Mapping:
    world_size: int = 1
    rank: int = 0
    tp_size: int = 1
    pp_size: int = 1
    enable_attention_dp: bool = False

    def has_tp(self) -> bool:
        return self.tp_size > 1
