"""The forward of a decoder layer whose norms are fused with the adds before them.

The add after the MLP belongs to the norm of the next layer, so a layer ends by norming and rounding for the
next one and leaves the result at the border between them. What a layer returns is still the sum, as before:
whoever looks at hidden states sees the same. A layer that gets other hidden states than its predecessor
returned, for example from a hook in between, finds nothing at the border and norms by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bwdeploy_kernels.hugging_face.sites import FusedNorm


class Border:
    """The add and norm between two layers, computed by the first and read by the second."""

    def __init__(self, norm: FusedNorm) -> None:
        self._norm = norm
        self._hidden: Tensor | None = None
        self._normed: Tensor | None = None

    def leave(self, output: Tensor, residual: Tensor) -> Tensor:
        """Add, norm and round; the sum."""
        self._hidden, self._normed = self._norm(output, residual)
        return self._hidden

    def arrive(self, hidden: Tensor) -> Tensor:
        """The rounded norm of `hidden`."""
        normed = self._normed if self._hidden is hidden else None
        self._hidden = self._normed = None
        return self._norm.without_add(hidden) if normed is None else normed


class FusedLayer:
    """The forward of one decoder layer; a part that is None is as it was."""

    def __init__(
        self, layer: nn.Module, *, before: Border | None, middle: FusedNorm | None, after: Border | None
    ) -> None:
        self._layer: Any = layer
        self._before = before
        self._middle = middle
        self._after = after

    def forward(self, hidden_states: Tensor, **arguments: Any) -> Tensor:  # noqa: ANN401 - of the attention
        """As the layer's own."""
        layer, before = self._layer, self._before
        normed = before.arrive(hidden_states) if before else layer.input_layernorm(hidden_states)
        attention, _ = layer.self_attn(hidden_states=normed, **arguments)
        hidden_states, normed = self._add_and_norm(attention, hidden_states)
        output = layer.mlp(normed)
        return self._after.leave(output, hidden_states) if self._after else hidden_states + output

    def _add_and_norm(self, attention: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        if self._middle:
            return self._middle(attention, residual)
        added = residual + attention
        return added, self._layer.post_attention_layernorm(added)
