"""The text of one answer that comes in pieces: whole characters only, and an end at stop words.

Tokens are decoded in a window that begins at the piece before the last one, because some tokenizers spell a
token differently behind another; what is new is the difference. A piece that ends inside a character waits
for the rest. A stop word is the last thing of the answer, as with upstream's model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy_engine_models.tokenization import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Piece(NamedTuple):
    """What a response adds."""

    text: str
    stopped: bool = False
    """A stop word is complete: nothing may follow."""


class AnswerText:
    """One answer of a streaming request."""

    def __init__(self, decode: Callable[[list[list[int]]], list[str]], stops: Sequence[str]) -> None:
        self._decode = decode
        self._stops = [stop for stop in stops if stop]
        self._tokens: list[int] = []
        self._window = 0
        """Where the window begins."""
        self._told = 0
        """Tokens whose text was told."""
        self.text = ""
        """The whole answer so far."""

    def push(self, tokens: Sequence[int]) -> Piece:
        """The text that these tokens complete; may be empty."""
        self._tokens += tokens
        before, now = self._decode([self._tokens[self._window : self._told], self._tokens[self._window :]])
        if not tokens or now.endswith(UNFINISHED) or len(now) <= len(before):
            return Piece("")
        self._window, self._told = self._told, len(self._tokens)
        return self._add(now[len(before) :])

    def _add(self, new: str) -> Piece:
        reach = max(map(len, self._stops), default=1) - 1
        start = max(0, len(self.text) - reach)
        cut = cut_behind_stop(self.text + new, self._stops, start=start)
        told = len(self.text)
        self.text = cut.text
        return Piece(cut.text[told:], cut.stopped)


def cut_behind_stop(text: str, stops: Sequence[str], *, start: int = 0) -> Piece:
    """`text` up to the end of the first stop word that begins at `start` or later."""
    found = [(at, at + len(stop)) for stop in stops if stop and (at := text.find(stop, start)) >= 0]
    return Piece(text[: min(found)[1]], stopped=True) if found else Piece(text)
