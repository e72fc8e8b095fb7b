"""Keys and values of many sequences that grow at their own pace, in buffers that never move.

Speculative decoding accepts another number of tokens in each row of a batch, so what a model sees of the past
is told by position: every forward pass writes its columns at the positions it is given, and a mask hides the
columns after them. What was drafted and refused stays in the buffer, hidden, until it is overwritten.
Nothing here waits for the device.
"""

from __future__ import annotations

import torch
import transformers
from torch import Tensor

ALIGNMENT = 16
"""Columns of a buffer are a multiple of this; attention kernels copy a mask whose rows are not aligned."""


class RowCache(transformers.Cache):  # type: ignore[misc]  # transformers has no types
    """Two buffers for each layer, keys and values [rows, heads, length, width], made when first used."""

    def __init__(self, rows: int, length: int) -> None:
        super().__init__(layers=[])
        self.length = length
        self._rows = rows
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}
        self._columns = torch.empty(0)

    @property
    def filled(self) -> bool:
        """Whether a forward pass was made with it."""
        return bool(self._pairs)

    def place(self, positions: Tensor) -> None:
        """The next forward pass is of the tokens at `positions`, int64 [rows, tokens]."""
        self._columns = positions[:, None, :, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_more: object, **_named: object
    ) -> tuple[Tensor, Tensor]:
        """Write [rows, heads, tokens, width] at the positions; the whole buffers."""
        if layer_idx not in self._pairs:
            self._pairs[layer_idx] = (self._buffer(key_states), self._buffer(value_states))
        for buffer, states in zip(self._pairs[layer_idx], (key_states, value_states), strict=True):
            buffer.scatter_(2, self._columns.expand(states.shape), states)
        return self._pairs[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Unknown on the host: positions and mask are given to the model."""
        del layer_idx
        return 0

    def _buffer(self, like: Tensor) -> Tensor:
        # Zeros, because a hidden column still takes part in the sum, with weight 0.
        shape = (self._rows, like.shape[1], self.length, like.shape[3])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)


def causal_mask(positions: Tensor, length: int, dtype: torch.dtype, *, window: int | None = None) -> Tensor:
    """What is added to attention scores: 0 up to each token's own position, else the lowest number.

    `positions` is int64 [rows, tokens]; the result [rows, 1, tokens, length]. With `window` only that many
    columns are seen, the token's own included.
    """
    columns = torch.arange(length, device=positions.device)
    own = positions[:, None, :, None]
    hidden = columns > own
    if window is not None:
        hidden = hidden | (columns <= own - window)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min)


def aligned(length: int) -> int:
    """The next buffer length that attention kernels take without a copy."""
    return -(-length // ALIGNMENT) * ALIGNMENT
