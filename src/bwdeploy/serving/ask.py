"""Ask a served model one question, as `bwdeploy ask` and the demo do, and say how fast the answer came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bwdeploy.serving import metrics
from bwdeploy.serving.client import DEFAULT_IDLE_S, Sampling, collect
from bwdeploy.serving.http_client import generate_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.serving.client import Endpoint, Piece

_COUNT_DEADLINE_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An answer and its speed as the client saw it."""

    prompt: str
    text: str
    finish_reason: str | None
    tokens: int | None
    """From the model's own counter; other clients at the same time would be counted too. None without one."""
    seconds: float
    """From sending to the last piece."""
    first_token_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """All tokens over the whole time, prompt included."""
        if self.tokens is None:
            return None
        return self.tokens / self.seconds if self.seconds else 0.0


def ask(
    endpoint: Endpoint,
    prompt: str,
    sampling: Sampling,
    *,
    on_text: Callable[[str], None] = lambda _text: None,
    idle_s: float = DEFAULT_IDLE_S,
) -> Asked:
    """Stream one answer; `on_text` gets each new piece of text as it comes.

    Raises:
        GenerationError: the model refused or failed.
        ToolError: its metrics cannot be read.
    """
    tally = metrics.Tally(endpoint)
    answer = collect(_told(generate_stream(endpoint, prompt, sampling, idle_s=idle_s), on_text))
    return Asked(
        prompt=prompt,
        text=answer.text,
        finish_reason=answer.finish_reason,
        tokens=tally.tokens(timeout_s=_COUNT_DEADLINE_S),
        seconds=answer.seconds,
        first_token_s=answer.first_piece_s,
    )


def _told(pieces: Iterator[Piece], on_text: Callable[[str], None]) -> Iterator[Piece]:
    for piece in pieces:
        on_text(piece.text)
        yield piece
