"""From tokens to text, a piece at a time: detokenizers and stop strings.

A piece never ends inside a character: bytes of an unfinished character wait for the rest, and what is
still unfinished when the answer ends is dropped. Text that may turn out to be the beginning of a stop
string waits too; a stop string itself is never part of the answer.
"""

from __future__ import annotations

import codecs
import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG = logging.getLogger(__name__)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer(Protocol):
    """Turns the tokens of one answer into text."""

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete; may be empty."""
        ...

    def finish(self) -> str:
        """What is left at the end of the answer, without an unfinished character."""
        ...


class ByteDetokenizer:
    """For engines whose tokens are UTF-8 bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def push(self, tokens: Sequence[int]) -> str:
        """The characters that these bytes complete."""
        return self._decoder.decode(bytes(tokens))

    def finish(self) -> str:
        """Nothing: an unfinished character is dropped."""
        return ""


class TokenizerDetokenizer:
    """For engines with a Hugging Face tokenizer: wraps the `tokenizers` library's DecodeStream."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - tokenizers.Tokenizer has no types
        self._tokenizer = tokenizer
        self._stream = self._new_stream()
        self._waiting: list[int] = []

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete; special tokens have none."""
        return "".join([self._step(token) for token in tokens])

    def finish(self) -> str:
        """The text of the tokens that waited for the rest of a character."""
        text: str = self._tokenizer.decode(self._waiting, skip_special_tokens=True)
        self._waiting.clear()
        return text.rstrip(_REPLACEMENT)

    def _step(self, token: int) -> str:
        self._waiting.append(token)
        try:
            piece: str | None = self._stream.step(self._tokenizer, token)
        except Exception as error:
            # tokenizers raises a bare Exception when a prefix decodes differently with more tokens behind it
            # (https://github.com/vllm-project/vllm/issues/17448); a fresh stream goes on from this token.
            if "Invalid prefix" not in str(error):
                raise
            _LOG.warning("the tokenizer's decode stream was restarted: %s", error)
            self._stream = self._new_stream()
            piece = self._stream.step(self._tokenizer, token)
        if not piece:
            return ""
        self._waiting.clear()
        return piece

    @staticmethod
    def _new_stream() -> Any:  # noqa: ANN401 - as above
        from tokenizers.decoders import DecodeStream  # noqa: PLC0415 - the stub imports this module without it

        return DecodeStream(skip_special_tokens=True)


class StopMatcher:
    """Finds stop strings in text that arrives in pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Text that is safe to send, and the stop string if one is complete (the earliest one wins)."""
        if not self._stops:
            return text, None
        buffer = self._held + text
        found = [(at, stop) for stop in self._stops if (at := buffer.find(stop)) >= 0]
        if found:
            # At the same place the longer one wins, so that the order of the request does not matter.
            at, stop = min(found, key=lambda pair: (pair[0], -len(pair[1])))
            self._held = ""
            return buffer[:at], stop
        keep = self._possible_start(buffer)
        self._held = buffer[len(buffer) - keep :]
        return buffer[: len(buffer) - keep], None

    def finish(self) -> str:
        """The text that was held back for nothing."""
        text, self._held = self._held, ""
        return text

    def _possible_start(self, buffer: str) -> int:
        """Length of the longest end of `buffer` that a stop string begins with."""
        longest = min(len(buffer), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(buffer[-length:]) for stop in self._stops):
                return length
        return 0
