"""As tensorrt_llm/_torch/models/modeling_{auto,utils}.py."""

from __future__ import annotations

from typing import Any

MODEL_CLASS_MAPPING: dict[str, Any] = {}


def register_auto_model(name: str) -> Any:
    def decorator(cls: Any) -> Any:
        MODEL_CLASS_MAPPING[name] = cls
        return cls

    return decorator
