"""Routed experts one by one, as checkpoints store them; transformers 5 stacks those of a layer.

In stacks neither names nor shapes fit what is stored, and no layer would be there whose input could be
rounded. So each stack that the checkpoint stores apart becomes linear layers `experts.0.gate_proj`,
`experts.0.up_proj`, `experts.0.down_proj`, … with the same arithmetic; a stack that is stored as one stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import skip_init

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

_MATRICES = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
"""What Mixtral calls them."""
_MIXTRAL = re.compile(r"(.*)\.block_sparse_moe\.(?:experts\.(\d+)\.(w[123])|gate)\.(\w+)")
_STACKS = ("gate_up_proj", "down_proj")


class SeparateExperts(nn.ModuleList):  # type: ignore[misc]  # torch has no types here
    """Gated experts, each of three linear layers; called as the stack that it stands for."""

    def __init__(self, stack: Any) -> None:  # noqa: ANN401 - the class differs between models
        down = stack.down_proj
        count, hidden, width = down.shape
        shapes = {"gate_proj": (hidden, width), "up_proj": (hidden, width), "down_proj": (width, hidden)}
        super().__init__(
            nn.ModuleDict(
                {
                    name: skip_init(nn.Linear, *shape, bias=False, dtype=down.dtype, device=down.device)
                    for name, shape in shapes.items()
                }
            )
            for _ in range(count)
        )
        self._gate = stack._apply_gate  # noqa: SLF001 - what a model does between the two matrices
        for name in _STACKS:
            delattr(stack, name)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Float [tokens, hidden]; `top_k_index` and `top_k_weights` are [tokens, experts of a token]."""
        out = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self):
            tokens, places = torch.where(top_k_index == number)
            if tokens.numel():
                chosen = hidden_states[tokens]
                both = torch.cat([expert["gate_proj"](chosen), expert["up_proj"](chosen)], dim=-1)
                answer = expert["down_proj"](self._gate(both)) * top_k_weights[tokens, places, None]
                out.index_add_(0, tokens, answer.to(out.dtype))
        return out


def separate_experts(model: nn.Module, stored: Collection[str]) -> None:
    """Replace every stack of experts whose matrices are `stored` one by one (names as of `name_in_model`)."""
    for name, module in list(model.named_modules()):
        if f"{name}.0.gate_proj.weight" in stored and _is_plain_stack(module):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, SeparateExperts(module))


def name_in_model(stored: str) -> str:
    """The name that a stored tensor has in transformers' model; only Mixtral's differ."""
    found = _MIXTRAL.fullmatch(stored)
    if found is None:
        return stored
    block, expert, matrix, leaf = found.groups()
    inner = "gate" if expert is None else f"experts.{expert}.{_MATRICES[matrix]}"
    return f"{block}.mlp.{inner}.{leaf}"


def _is_plain_stack(module: nn.Module) -> bool:
    """Whether a module holds gated experts without biases: [experts, out, in], first all gates."""
    return (
        all(isinstance(getattr(module, name, None), nn.Parameter) for name in _STACKS)
        and callable(getattr(module, "_apply_gate", None))
        and getattr(module, "has_gate", True)
        and getattr(module, "is_concatenated", True)
        and not getattr(module, "is_transposed", False)
        and not getattr(module, "has_bias", False)
    )
