"""Speculative decoding of many prompts at once, each row at its own pace, without waiting for the device.

One step: the target reads the last token and the drafted ones, the rule takes a part of them and adds a
token, the draft reads what the target computed and proposes the next ones in a chain. All of a row's state
lies in tensors that never move, so a step can be captured as a CUDA graph; what was accepted is written down
on the device and read at the end. A row that is done stays where it is and goes on costing what it cost.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bwdeploy.worker.drafts.pair import Acceptance, Draft, Pair
from bwdeploy.worker.drafts.row_cache import RowCache, aligned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Step = Callable[[], Tensor]


_STEPS_BETWEEN_LOOKS = 16
"""How often it is asked whether every row is done; in between nothing waits."""
_ROWS = 32


class RowDecoder:
    """Decodes up to `rows` prompts together, with up to `draft_len` drafted tokens in a step."""

    def __init__(
        self, pair: Pair, *, rows: int, longest_prompt: int, new_tokens: int, draft_len: int
    ) -> None:
        self._pair, self._rows, self._draft_len = pair, rows, draft_len
        self._new_tokens = new_tokens
        device = pair.target.device
        # A row stops at most draft_len beyond its limit and then still writes draft_len columns.
        length = aligned(longest_prompt + new_tokens + 2 * draft_len + 1)
        self._caches = (RowCache(rows, length), RowCache(rows, length))
        self._columns = torch.arange(length, device=device)
        self._stop_ids = torch.tensor(pair.target.stop_ids, dtype=torch.int64, device=device)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self._tokens, self._drafts = zeros(rows, length + 1), zeros(rows, draft_len)
        self._count, self._limit, self._step = zeros(rows), zeros(rows), zeros(1)
        self._done = torch.zeros(rows, dtype=torch.bool, device=device)
        # The column after the last step takes what steps after the end write.
        self._accepted, self._gains = zeros(rows, new_tokens + 1), zeros(rows, new_tokens + 1)
        kept = pair.target.config.vocab_size if pair.rule.keeps_probabilities else 0
        self._drawn_from = torch.zeros((rows, draft_len, kept), device=device)
        self._replaced: dict[int, Step] = {}
        self._starts: list[int] = []

    @property
    def device(self) -> torch.device:
        """Where it decodes."""
        return self._count.device

    def begin(self, prompts: Sequence[Sequence[int]], draft_len: int) -> None:
        """Read the prompts (token ids, at most one a row) and draft the first tokens."""
        self._starts = [len(prompt) for prompt in prompts]
        # A row without a prompt of its own repeats the last one.
        filled = [*prompts, *[prompts[-1]] * (self._rows - len(prompts))]
        lengths = torch.tensor([len(prompt) for prompt in filled])
        ids = torch.zeros((self._rows, int(lengths.max())), dtype=torch.int64)
        for row, prompt in enumerate(filled):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        for state in (self._tokens, self._accepted, self._gains, self._step, self._done):
            state.zero_()
        self._tokens[:, : ids.shape[1]] = ids.to(self._tokens.device)
        self._count.copy_(lengths)
        self._limit.copy_(lengths + self._new_tokens)
        self._prefill(ids.shape[1] - 1, draft_len)

    def replace_step(self, draft_len: int, replace: Callable[[Step], Step]) -> None:
        """Take steps of that length as `replace` makes them, for example from a graph.

        To be called after `begin`, which must then be repeated: `replace` may run the step.
        """
        step = partial(self._take_step, draft_len)
        replaced = replace(step)
        if replaced is not step:
            self._replaced[draft_len] = replaced

    def step(self, draft_len: int) -> None:
        """One step of every row."""
        step = self._replaced.get(draft_len) or partial(self._take_step, draft_len)
        step()

    def draft_again(self, draft_len: int) -> Tensor:
        """Only the drafting of a step, as of rows that accepted nothing; for timing."""
        positions = self._positions(draft_len)
        layers = max(1, len(_present(self._pair.draft).capture))
        width = layers * self._pair.target.config.hidden_size
        captured = torch.zeros(
            (*positions.shape, width), dtype=self._pair.target.dtype, device=positions.device
        )
        self._propose(draft_len, captured, positions, torch.zeros_like(self._count))
        return self._drafts

    def run(self, draft_len: int, *, after_step: Callable[[], object] | None = None) -> None:
        """Step until every row is done, and up to 15 times more."""
        for taken in range(0, self._new_tokens, _STEPS_BETWEEN_LOOKS):
            for _ in range(min(_STEPS_BETWEEN_LOOKS, self._new_tokens - taken)):
                self.step(draft_len)
                if after_step is not None:
                    after_step()
            if bool(self._done.all()):
                return

    def results(self) -> list[Acceptance]:
        """What was generated for each prompt so far."""
        tokens, counts = self._tokens.tolist(), self._count.tolist()
        gains, accepted = self._gains.tolist(), self._accepted.tolist()
        found = []
        for row, start in enumerate(self._starts):
            steps = sum(gain > 0 for gain in gains[row][: self._new_tokens])
            generated = tokens[row][start : counts[row]]
            found.append(Acceptance(generated, tuple(accepted[row][:steps]), tuple(gains[row][:steps])))
        return found

    def _prefill(self, width: int, draft_len: int) -> None:
        """Read all but each prompt's last token, which the first step reads."""
        positions = self._columns[:width].repeat(self._rows, 1)
        _, captured = self._read(self._tokens[:, :width], positions, draft_len)
        if draft_len:
            self._propose(draft_len, captured, positions, self._count - 2)

    def _take_step(self, draft_len: int) -> Tensor:
        positions = self._positions(draft_len)
        drafts = self._drafts[:, :draft_len]
        ids = torch.cat((self._tokens.gather(1, positions[:, :1]), drafts), dim=1)
        hidden, captured = self._read(ids, positions, draft_len)
        logits = self._pair.target.logits(hidden)
        new, accepted = self._pair.rule.verify(logits, drafts, self._drawn_from[:, :draft_len])
        self._commit(new, accepted)
        if draft_len:
            self._propose(draft_len, captured, positions, accepted)
        return self._count

    def _positions(self, draft_len: int) -> Tensor:
        """Of each row's last token and of the drafted ones."""
        return (self._count - 1)[:, None] + self._columns[: draft_len + 1]

    def _read(self, ids: Tensor, positions: Tensor, draft_len: int) -> tuple[Tensor, Tensor]:
        """The target's hidden states, and what the draft reads of them where anything is drafted."""
        capture = _present(self._pair.draft).capture if draft_len else ()
        return self._pair.target.forward(ids, positions, self._caches[0], capture)

    def _commit(self, new: Tensor, accepted: Tensor) -> None:
        """Append the accepted tokens and the target's own; an answer ends with a stop token."""
        columns = self._columns[: new.shape[1]]
        stops = (new[..., None] == self._stop_ids).any(dim=-1) & (columns <= accepted[:, None])
        stopped = stops.any(dim=1)
        before_stop = (~stops).to(torch.int64).cumprod(dim=1).sum(dim=1)
        gains = torch.minimum(before_stop, accepted) + 1
        gains = gains.masked_fill(self._done, 0)
        slots = self._count[:, None] + columns
        kept = torch.where(self._done[:, None], self._tokens.gather(1, slots), new)
        self._tokens.scatter_(1, slots, kept)
        self._count.add_(gains)
        self._done.logical_or_(stopped | (self._count >= self._limit))
        column = self._step.clamp(max=self._new_tokens).expand(self._rows)[:, None]
        self._gains.scatter_(1, column, gains[:, None])
        self._accepted.scatter_(1, column, torch.minimum(accepted, gains)[:, None])
        self._step.add_(1)

    def _propose(self, draft_len: int, captured: Tensor, positions: Tensor, last: Tensor) -> None:
        """Draft a chain: the draft reads what the target computed, and goes on from column `last` of it."""
        draft, cache = _present(self._pair.draft), self._caches[1]
        ids = self._tokens.gather(1, positions + 1)
        hidden = draft.forward(draft.features(captured), ids, positions, cache)
        hidden = hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1]))
        position = positions.gather(1, last[:, None])
        token = self._draft_one(draft, 0, hidden)
        for index in range(1, draft_len):
            position = position + 1
            hidden = draft.forward(draft.chained(hidden), token[:, None], position, cache)
            token = self._draft_one(draft, index, hidden)

    def _draft_one(self, draft: Draft, index: int, hidden: Tensor) -> Tensor:
        """Propose the drafted token number `index` of each row from [rows, 1, hidden]."""
        token, drawn_from = self._pair.rule.propose(
            draft.logits(hidden[:, 0]), draft.to_target, self._pair.target.config.vocab_size
        )
        self._drafts[:, index] = token
        if self._pair.rule.keeps_probabilities:
            self._drawn_from[:, index] = drawn_from
        return token


def decode(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    *,
    draft_len: int,
    new_tokens: int,
    replace: Callable[[Step], Step] | None = None,
) -> Iterator[list[Acceptance]]:
    """Decode prompts of any number, in batches; what each batch took, in order.

    `replace` makes the steps, as for `RowDecoder.replace_step`.
    """
    longest = max(len(prompt) for prompt in prompts)
    rows = min(_ROWS, len(prompts))
    decoder = RowDecoder(pair, rows=rows, longest_prompt=longest, new_tokens=new_tokens, draft_len=draft_len)
    if replace is not None:
        with torch.no_grad():
            decoder.begin(prompts[:rows], draft_len)
            decoder.replace_step(draft_len, replace)
    for start in range(0, len(prompts), rows):
        with torch.no_grad():
            decoder.begin(prompts[start : start + rows], draft_len)
            decoder.run(draft_len)
            found = decoder.results()
        yield found


def _present(draft: Draft | None) -> Draft:
    if draft is None:
        raise ValueError("tokens are drafted only where there is a draft")
    return draft
