"""An engine without a model: answers with the prompt itself, one byte a token.

It shows what the serving path costs and how it behaves, nothing about models. `echo_token_delay_ms`
gives each answer a pace; sampling parameters other than max_tokens have no effect.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bwdeploy_runtime.engines.base import EngineInfo, Request, Tokens
from bwdeploy_runtime.errors import InvalidRequestError
from bwdeploy_runtime.worker.text import ByteDetokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bwdeploy_runtime.config import EngineConfig


@dataclass
class _Answer:
    content: bytes
    """What will be sent, already cut to max_tokens."""
    finish: str
    due_s: float
    sent: int = 0


class EchoEngine:
    """Streams each prompt back."""

    def __init__(self) -> None:
        self._answers: dict[str, _Answer] = {}
        self._delay_s = 0.0
        self._max_input_len: int | None = None

    def load(self, config: EngineConfig, directory: Path, *, wake: Callable[[], None]) -> EngineInfo:
        """Nothing to load."""
        del directory, wake
        self._delay_s = config.echo_token_delay_ms / 1000
        self._max_input_len = config.max_input_len
        return EngineInfo(engine="echo", device="cpu", max_seq_len=config.max_seq_len)

    def detokenizer(self) -> ByteDetokenizer:
        """Tokens are bytes."""
        return ByteDetokenizer()

    def submit(self, request: Request) -> None:
        """Begin an answer.

        Raises:
            InvalidRequestError: the prompt is empty or too long.
        """
        content = request.prompt.encode()
        if not content:
            raise InvalidRequestError("text_input is empty: give at least one character.")
        if self._max_input_len is not None and len(content) > self._max_input_len:
            raise InvalidRequestError(
                f"the prompt has {len(content)} tokens, more than max_input_len {self._max_input_len}."
            )
        limit = request.sampling.max_tokens
        finish = "stop" if len(content) <= limit else "length"
        self._answers[request.id] = _Answer(content[:limit], finish, due_s=time.monotonic() + self._delay_s)

    def cancel(self, request_id: str) -> None:
        """Forget the answer."""
        self._answers.pop(request_id, None)

    def step(self) -> Sequence[Tokens]:
        """One token of every answer whose time has come."""
        now_s = time.monotonic()
        return [
            self._next(request_id, answer, now_s)
            for request_id, answer in list(self._answers.items())
            if answer.due_s <= now_s
        ]

    def pause_s(self) -> float | None:
        """Until the next token is due."""
        if not self._answers:
            return None
        return max(0.0, min(answer.due_s for answer in self._answers.values()) - time.monotonic())

    def kernel_calls(self) -> dict[str, int]:
        """There are none."""
        return {}

    def close(self) -> None:
        """Forget all answers."""
        self._answers.clear()

    def _next(self, request_id: str, answer: _Answer, now_s: float) -> Tokens:
        token = answer.content[answer.sent : answer.sent + 1]
        answer.sent += 1
        answer.due_s = now_s + self._delay_s
        if answer.sent < len(answer.content):
            return Tokens(request_id, token)
        del self._answers[request_id]
        return Tokens(request_id, token, finish=answer.finish)
