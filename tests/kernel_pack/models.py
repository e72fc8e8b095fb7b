"""Tiny random models of transformers whose linear layers round their input, as a loaded checkpoint's do."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import torch
from torch import nn

from bwdeploy_runtime.formats import Activation
from bwdeploy_runtime.input_rounding import InputRounding

TINY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PROMPT = torch.tensor([[7, 31, 5, 88, 19, 44, 2, 61], [0, 0, 0, 12, 75, 9, 30, 8]])
MASK = (PROMPT != 0).long()
"""The second prompt is shorter and padded on the left."""


def tiny_model(
    kind: str,
    rounding: Activation,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **changes: Any,
) -> Any:
    """A random model of `model_type` `kind` in evaluation mode; all inputs have the same scale."""
    transformers = import_module("transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **TINY | changes)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Wider than the default, so that rounding changes answers, and norms that are not all ones.
            parameter.mul_(4.0) if parameter.dim() > 1 else parameter.add_(torch.rand_like(parameter) * 0.5)
    model.to(device)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "layers" in name:
            round_input(module, rounding)
    return model


def round_input(
    module: nn.Module, kind: Activation, *, scale: float | None = None, smoothing: torch.Tensor | None = None
) -> None:
    """Let the linear layer `module` round its input."""
    if scale is None:
        scale = 0.02 if kind == "fp8" else 0.003
    input_scale = None if kind == "fp8_token" else torch.tensor(scale)
    if hasattr(module, "input_rounding"):
        module.input_rounding.remove()
    weight: Any = module.weight
    InputRounding(kind=kind, input_scale=input_scale, smoothing=smoothing, like=weight).attach(module)


def twin(model: Any) -> Any:
    """An independent copy, with hooks of its own."""
    result = copy.deepcopy(model)
    for module in result.modules():
        if hasattr(module, "input_rounding"):
            module._forward_pre_hooks.clear()
            module.input_rounding.attach(module)
    return result


def forward(model: Any, tokens: torch.Tensor = PROMPT, mask: torch.Tensor | None = MASK) -> tuple[Any, ...]:
    """Logits and all hidden states of one prefill."""
    with torch.inference_mode():
        output = model(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
    return (output.logits, *output.hidden_states)


def greedy(model: Any, *, cache: str | None = None, tokens: int = 12) -> list[list[int]]:
    """Tokens of a greedy decode of both prompts."""
    answer = model.generate(
        PROMPT.to(model.device),
        attention_mask=MASK.to(model.device),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        cache_implementation=cache,
        disable_compile=True,
    )
    found: list[list[int]] = answer.tolist()
    return found
