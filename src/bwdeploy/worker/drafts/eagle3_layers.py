"""The layers of an EAGLE3 draft, made from its tensors: `fc`, decoder layers, linear layers, norms.

What a draft lacks or has in the wrong size is refused here, where it would be used. q, k, v and gate, up are
one matrix product each, as in the served model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from bwdeploy.worker.drafts.draft_tensors import SECTION
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from bwdeploy.worker.drafts.draft_tensors import DraftTensors
    from bwdeploy.worker.drafts.row_cache import RowCache


class DraftLayer(nn.Module):  # type: ignore[misc]  # torch is skipped
    """A Llama decoder layer; the first one of a draft has attention over two hidden states side by side."""

    def __init__(self, tensors: DraftTensors, config: Any, index: int, *, normed_residual: bool) -> None:  # noqa: ANN401
        super().__init__()
        name = f"layers.{index}"
        wide = f"{name}.input_layernorm.weight" in tensors and f"{name}.hidden_norm.weight" in tensors
        self._index, self._normed_residual = index, normed_residual and wide
        self._embed_norm = rms_norm(tensors.take(f"{name}.input_layernorm.weight"), config) if wide else None
        # TensorRT-LLM calls the norm of a further layer hidden_norm, ModelOpt input_layernorm.
        further = "hidden_norm" if f"{name}.hidden_norm.weight" in tensors else "input_layernorm"
        self._hidden_norm = rms_norm(tensors.take(f"{name}.{further}.weight"), config)
        self._mlp_norm = rms_norm(tensors.take(f"{name}.post_attention_layernorm.weight"), config)
        self._qkv = linear(tensors, *(f"{name}.self_attn.{part}_proj" for part in "qkv"))
        self._out = linear(tensors, f"{name}.self_attn.o_proj")
        self._gate_up = linear(tensors, f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj")
        self._down = linear(tensors, f"{name}.mlp.down_proj")
        self._act = ACT2FN[config.hidden_act]
        self._heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        self._width = config.head_dim
        self._refuse_heads()

    def forward(
        self, hidden: Tensor, embeds: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, cache: RowCache
    ) -> Tensor:
        """Hidden states [rows, tokens, hidden] after this layer."""
        normed = self._hidden_norm(hidden)
        residual = normed if self._normed_residual else hidden
        if self._embed_norm is not None:
            normed = torch.cat((self._embed_norm(embeds), normed), dim=-1)
        hidden = residual + self._attention(normed, rotation, mask, cache)
        gate, up = self._gate_up(self._mlp_norm(hidden)).chunk(2, dim=-1)
        mixed: Tensor = hidden + self._down(self._act(gate) * up)
        return mixed

    def _attention(
        self, normed: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, cache: RowCache
    ) -> Tensor:
        rows, tokens, _ = normed.shape
        split = self._qkv(normed).view(rows, tokens, sum(self._heads), self._width).transpose(1, 2)
        query, key, value = split.split(self._heads, dim=1)
        keys, values = cache.update(_rotated(key, *rotation), value, self._index)
        groups = self._heads[0] // self._heads[1]
        mixed = functional.scaled_dot_product_attention(
            _rotated(query, *rotation), _repeated(keys, groups), _repeated(values, groups), attn_mask=mask
        )
        projected: Tensor = self._out(mixed.transpose(1, 2).reshape(rows, tokens, -1))
        return projected

    def _refuse_heads(self) -> None:
        if sum(self._heads) * self._width != self._qkv.out_features:
            raise recipe_error(
                SECTION,
                f"q, k and v of the draft have {self._qkv.out_features} rows together, but its config.json "
                f"says {self._heads[0]} and {self._heads[1]} heads of {self._width}",
            )


class Fusion(nn.Module):  # type: ignore[misc]
    """`fc`, with the norms that some drafts have before it: one for all, or one for each captured layer."""

    def __init__(self, tensors: DraftTensors, config: Any, layers: int) -> None:  # noqa: ANN401
        super().__init__()
        names = [f"fc_norm.{index}.weight" for index in range(layers)]
        found = [name for name in (*names, "input_norm.weight") if name in tensors]
        self._norms = nn.ModuleList(rms_norm(tensors.take(name), config) for name in found)
        self._fc = linear(tensors, "fc")

    def forward(self, captured: Tensor) -> Tensor:
        """[rows, tokens, layers x hidden of the target] → [rows, tokens, hidden]."""
        if self._norms:
            parts = captured.chunk(len(self._norms), dim=-1)
            captured = torch.cat([norm(part) for norm, part in zip(self._norms, parts, strict=True)], dim=-1)
        fused: Tensor = self._fc(captured)
        return fused

    def refuse_width(self, wanted: int) -> None:
        """Raise unless `fc` reads that many numbers of each token.

        Raises:
            RecipeError: the target gives another number.
        """
        if self._fc.in_features != wanted:
            raise recipe_error(
                SECTION,
                f"the draft's fc reads {self._fc.in_features} numbers of each token, but what it captures of "
                f"the target has {wanted}",
                hint="It was trained for another model.",
            )


def linear(tensors: DraftTensors, *names: str) -> nn.Linear:
    """One linear layer from those that read the same input."""
    weight = torch.cat([tensors.take(f"{name}.weight") for name in names])
    biases = [bias for name in names if (bias := tensors.optional(f"{name}.bias")) is not None]
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(biases), device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if biases:
        layer.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return layer


def rms_norm(weight: Tensor, config: Any) -> nn.RMSNorm:  # noqa: ANN401
    """A norm with that weight."""
    norm = nn.RMSNorm(len(weight), eps=config.rms_norm_eps, device="meta")
    norm.weight = nn.Parameter(weight, requires_grad=False)
    return norm


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [rows, heads, tokens, width], halves swapped as Llama's weights expect."""
    low, high = states.chunk(2, dim=-1)
    return states * cos[:, None] + torch.cat((-high, low), dim=-1) * sin[:, None]


def _repeated(states: Tensor, groups: int) -> Tensor:
    """Each key head once for every query head of its group; attention with a mask has no such kernel."""
    if groups == 1:
        return states
    rows, heads, length, width = states.shape
    return states[:, :, None].expand(rows, heads, groups, length, width).reshape(rows, -1, length, width)
