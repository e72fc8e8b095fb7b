"""What a client asks of the Triton model and what it gets back, whatever the route.

`http_client` and `grpc_client` send it. Both yield `Piece` by `Piece`; closing the iterator cancels the
request. A model that ends an answer with an error, or goes silent for longer than the idle deadline,
raises `GenerationError`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import ToolError
from bwdeploy.serving.vocabulary import LLMAPI, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_IDLE_S: Final = 120.0
"""The demo model makes about 12 tokens/s on a CPU, and a long prompt comes before the first."""

FieldValue = str | int | float | bool | list[str]


class GenerationError(ToolError):
    """A request failed; `status` says how, for example `HTTP 400` or `no answer in time`."""

    def __init__(self, message: str, *, status: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where one model is served."""

    http: str
    """host:port"""
    grpc: str
    """host:port"""
    metrics: str
    """host:port"""
    model: str
    vocabulary: Vocabulary = LLMAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to continue a prompt. What is left out is the model's default; without temperature: greedy."""

    max_tokens: int = 16
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One response of a stream."""

    text: str
    finish_reason: str | None
    """Set on the last piece: stop, length or cancelled."""
    at_s: float
    """Since the request was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    pieces: tuple[Piece, ...]
    text: str
    seconds: float

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, when the model said so."""
        return self.pieces[-1].finish_reason if self.pieces else None

    @property
    def first_piece_s(self) -> float:
        """Time to the first piece: the client's view of the time to the first token."""
        return self.pieces[0].at_s if self.pieces else self.seconds


def collect(pieces: Iterable[Piece], *, cumulative: bool = False) -> Answer:
    """Read a stream to its end; `cumulative` when each piece repeats the whole text so far.

    Raises:
        GenerationError: the stream ended with an error or went silent.
    """
    started = time.perf_counter()
    received = tuple(pieces)
    last = received[-1].text if received else ""
    text = last if cumulative else "".join(piece.text for piece in received)
    return Answer(pieces=received, text=text, seconds=time.perf_counter() - started)


def first_piece(pieces: Iterator[Piece]) -> Piece:
    """The first piece of a stream.

    Raises:
        GenerationError: there is none.
    """
    for piece in pieces:
        return piece
    raise GenerationError("The stream ended without a single response.", status="empty stream")
