"""Recipes and models for the planner's tests, made without files: known models come with bwdeploy."""

from __future__ import annotations

from typing import Any

from bwdeploy.facts.model_configs import bundled_model
from bwdeploy.model.describe import DescribedModel
from bwdeploy.model.families import read_shape
from bwdeploy.planner.memory import MemoryPlan, plan_memory
from bwdeploy.recipe.schema import Recipe

SMALL_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}


def recipe(**sections: Any) -> Recipe:
    """A recipe with these sections; NVFP4 when nothing is said of quantization."""
    given = {"schema": 1, "name": "t", "model": {"source": "file://m"}, "quantize": {"format": "nvfp4"}}
    return Recipe.model_validate(given | sections, strict=False)


def known(hub_id: str) -> DescribedModel:
    """A model that comes with bwdeploy, as published; its own quantization is kept."""
    bundled = bundled_model(hub_id)
    assert bundled is not None
    return described(bundled.config, bundled.quantization or bundled.config.get("quantization_config"))


def unquantized(hub_id: str) -> DescribedModel:
    """The same without what it says of its own quantization."""
    return known(hub_id)._replace(quantization=None)


def described(config: dict[str, Any], quantization: dict[str, Any] | None = None) -> DescribedModel:
    """A model from its configuration."""
    shape = read_shape(config, origin="config.json")
    return DescribedModel(config, "config.json", shape, None, quantization=quantization)


def planned(model: DescribedModel, **sections: Any) -> MemoryPlan:
    """The memory plan of a recipe with these sections."""
    plan = plan_memory(recipe(**sections), model)
    assert plan is not None
    return plan
