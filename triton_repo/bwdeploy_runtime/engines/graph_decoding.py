"""The next token of one request as a captured CUDA graph, so that launching kernels costs nothing.

A graph has its addresses built in, so each request under way needs a slot: buffers of a fixed length for its
keys and values, and a graph of the decode step that writes into them at a position read from the device. The
prefill stays eager and fills a growing cache, which the slot copies. What the step computes differs from an
eager one in attention alone: it reads the whole buffer through a mask, for which torch picks another kernel.
Nothing here depends on transformers' own static cache, which has changed with almost every version.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from bwdeploy_runtime.engines.cuda_capture import Capture

_LOG = logging.getLogger(__name__)
_SLOTS: Final = 8
"""Each graph also costs a few MB of the driver's memory, which nobody accounts for."""
_SHORTEST: Final = 256
"""The first of the buffer lengths; each further one is twice as long, because attention reads all of it."""
_ALIGNMENT: Final = 16
"""Columns; attention kernels copy a mask whose rows are not aligned."""
_ATTENTION: Final = ("sdpa", "eager")
"""The implementations that add a mask of four dimensions as it is."""
_LARGEST_DIFFERENCE: Final = 0.5
"""Of a graph's logits from eager ones, as a share of their spread. Another rounding in attention moved those
of a 135M model by 0.07 (FP8 activations) and 0.31 (NVFP4); a position that is one off by 0.96 and 1.46."""


class FixedCache(transformers.Cache):  # type: ignore[misc]  # transformers has no types
    """Keys and values of one request in buffers that never move."""

    def __init__(self, like: Sequence[tuple[Tensor, Tensor]], *, length: int, position: Tensor) -> None:
        """`like` are keys and values of each layer, [1, heads, any, width]; `position` is int64 [1]."""
        super().__init__(layers=[])
        self._position = position
        # Zeros, because a masked column still takes part in the sum, with weight 0.
        self._pairs = [(_buffer(keys, length), _buffer(values, length)) for keys, values in like]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_more: object, **_named: object
    ) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values; the whole buffers."""
        for buffer, states in zip(self._pairs[layer_idx], (key_states, value_states), strict=True):
            buffer.index_copy_(2, self._position, states)
        return self._pairs[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Unknown on the host: positions and mask are given to the model."""
        del layer_idx
        return 0

    def take(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Copy another cache's keys and values in, and forget those of a request before."""
        for buffers, states in zip(self._pairs, pairs, strict=True):
            for buffer, state in zip(buffers, states, strict=True):
                buffer[:, :, : state.shape[2]].copy_(state)
                # A NaN that a former request left would go through the mask.
                buffer[:, :, state.shape[2] :].zero_()


class Slot:
    """The place of one request at a time."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers model
        like: Sequence[tuple[Tensor, Tensor]],
        *,
        length: int,
        capture: Capture,
    ) -> None:
        """`like` as for FixedCache."""
        self.length = length
        device, self._dtype = like[0][0].device, like[0][0].dtype
        self._model = model
        self._ids = torch.zeros((1, 1), dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._columns = torch.arange(length, device=device)
        self._cache = FixedCache(like, length=length, position=self._position)
        self._seen = 0
        self._replay = capture(self._step)

    def take(self, cache: Any) -> None:  # noqa: ANN401 - transformers.DynamicCache
        """Go on from where a growing cache stands."""
        pairs = _pairs(cache)
        self._cache.take(pairs)
        self._seen = pairs[0][0].shape[2]

    def decode(self, token: int) -> Tensor:
        """Logits [vocabulary] of what follows `token`; valid until any slot decodes again."""
        self._ids.fill_(token)
        self._position.fill_(self._seen)
        self._seen += 1
        return self._replay()

    def undo(self) -> None:
        """Forget the last token."""
        self._seen -= 1

    def _step(self) -> Tensor:
        mask = torch.zeros(self.length, dtype=self._dtype, device=self._columns.device)
        mask = mask.masked_fill(self._columns > self._position, torch.finfo(self._dtype).min)
        logits: Tensor = self._model(
            input_ids=self._ids,
            position_ids=self._position[None],
            attention_mask=mask[None, None, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[0, -1]


class GraphDecoder:
    """Hands out slots, made when they are first needed; without one a request decodes eagerly."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - transformers model
        *,
        longest: int,
        memory_bytes: int,
        capture: Capture,
        while_capturing: AbstractContextManager[object] | None = None,
    ) -> None:
        """`longest` is the longest sequence in tokens; all slots together stay within `memory_bytes`."""
        self._model = model
        self._longest = -(-longest // _ALIGNMENT) * _ALIGNMENT
        self._memory_bytes = memory_bytes
        self._capture = capture
        self._while_capturing = while_capturing or nullcontext()
        self._bytes: dict[Slot, int] = {}
        self._free: list[Slot] = []
        self._refused = False

    def begin(self, cache: Any, token: int, *, tokens: int) -> Slot | None:  # noqa: ANN401
        """A slot that holds `cache`, for a request that will have at most `tokens`; None: decode eagerly.

        `token` is the next one to decode; a slot that is made now is tried with it. The cache stays as it is.
        Call it and `Slot.decode` in inference mode.
        """
        length = self._length_for(tokens)
        slot = next((slot for slot in self._free if slot.length >= length), None)
        if slot is None:
            return None if self._refused else self._new_slot(cache, token, length)
        self._free.remove(slot)
        slot.take(cache)
        return slot

    def end(self, slot: Slot) -> None:
        """The slot is free again."""
        self._free.append(slot)
        self._free.sort(key=lambda free: free.length)

    def _length_for(self, tokens: int) -> int:
        length = _SHORTEST
        while length < tokens:
            length *= 2
        return min(length, self._longest)

    def _new_slot(self, cache: Any, token: int, length: int) -> Slot | None:  # noqa: ANN401
        needed = _slot_bytes(cache, length)
        if not self._make_room(needed):
            return None
        try:
            slot = self._proven_slot(cache, token, length)
        except Exception as error:  # noqa: BLE001 - whatever the model does that a graph cannot hold
            self._refused = True
            reason = str(error).partition("\n")[0]
            _LOG.warning("tokens are decoded without CUDA graphs: %s: %s", type(error).__name__, reason)
            return None
        self._bytes[slot] = needed
        return slot

    def _proven_slot(self, cache: Any, token: int, length: int) -> Slot:  # noqa: ANN401
        problem = unfit(self._model, cache)
        if problem:
            raise NotImplementedError(problem)
        with self._while_capturing:
            slot = Slot(self._model, _pairs(cache), length=length, capture=self._capture)
        slot.take(cache)
        difference = self._difference(slot, cache, token)
        if not difference <= _LARGEST_DIFFERENCE:
            raise ArithmeticError(f"logits differ by {difference:.2f} of their spread from those without")
        return slot

    def _make_room(self, needed: int) -> bool:
        """Let go of free slots, the shortest first, where that makes room for one more."""
        if not self._fits(needed, beside=[slot for slot in self._bytes if slot not in self._free]):
            return False
        while not self._fits(needed, beside=self._bytes):
            del self._bytes[self._free.pop(0)]
        return True

    def _fits(self, needed: int, *, beside: Collection[Slot]) -> bool:
        used = sum(self._bytes[slot] for slot in beside)
        return len(beside) < _SLOTS and used + needed <= self._memory_bytes

    def _difference(self, slot: Slot, cache: Any, token: int) -> float:  # noqa: ANN401
        """How far the slot's logits lie from the eager ones after the same token."""
        replayed = slot.decode(token).float()
        slot.undo()
        ids = torch.tensor([[token]], device=replayed.device)
        seen = cache.get_seq_length()
        try:
            output = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        finally:
            cache.crop(seen)  # also where only the first layers took the token, for lack of memory
        eager = output.logits[0, -1].float()
        return float((replayed - eager).norm() / (eager - eager.mean()).norm())


def unfit(model: Any, cache: Any) -> str | None:  # noqa: ANN401
    """Why a model with this (filled) growing cache cannot be decoded in slots."""
    attention = getattr(model.config, "_attn_implementation", None)
    if attention not in _ATTENTION:
        return f"attention {attention} is not one of {', '.join(_ATTENTION)}"
    kinds = {type(layer) for layer in cache.layers}
    others = sorted(kind.__name__ for kind in kinds - {DynamicLayer})
    return f"the model's cache has layers of {', '.join(others)}" if others else None


def _pairs(cache: Any) -> list[tuple[Tensor, Tensor]]:  # noqa: ANN401
    return [(layer.keys, layer.values) for layer in cache.layers]


def _buffer(like: Tensor, length: int) -> Tensor:
    batch, heads, _, width = like.shape
    return torch.zeros((batch, heads, length, width), dtype=like.dtype, device=like.device)


def _slot_bytes(cache: Any, length: int) -> int:  # noqa: ANN401
    return sum(
        length * state.shape[1] * state.shape[3] * state.element_size()
        for pair in _pairs(cache)
        for state in pair
    )
