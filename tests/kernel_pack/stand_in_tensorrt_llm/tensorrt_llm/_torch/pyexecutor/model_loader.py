"""As tensorrt_llm/_torch/pyexecutor/model_loader.py: the architecture is in the checkpoint's config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorrt_llm._torch.models.modeling_llama
import tensorrt_llm._torch.models.modeling_qwen3  # noqa: F401 - both register their models
from tensorrt_llm._torch.models.modeling_auto import MODEL_CLASS_MAPPING
from tensorrt_llm._torch.models.tiny import ModelConfig
from tensorrt_llm.mapping import Mapping


class ModelLoader:
    def __init__(self, mapping: Mapping, lora_config: Any = None) -> None:
        self.mapping = mapping
        self.lora_config = lora_config

    def load(self, checkpoint_dir: str, checkpoint_loader: Any) -> Any:
        del checkpoint_loader
        config = json.loads((Path(checkpoint_dir) / "config.json").read_text())
        model = MODEL_CLASS_MAPPING[config["architecture"]](ModelConfig(config["quant"], self.mapping))
        for module in model.modules():
            if hasattr(module, "post_load_weights"):
                module.post_load_weights()
        return model.eval(), None
