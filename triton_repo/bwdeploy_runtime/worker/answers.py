"""One answer on its way out of the engine: from tokens to text that may be sent, with its times and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy_runtime.worker.text import StopMatcher

if TYPE_CHECKING:
    from bwdeploy_runtime.engines.base import Tokens
    from bwdeploy_runtime.sampling import SamplingParams
    from bwdeploy_runtime.worker.text import Detokenizer


class Piece(NamedTuple):
    """Text that may be sent, and whether the answer ends with it."""

    text: str
    finish: str | None = None
    stop_reason: str | None = None


class Answer:
    """Belongs to the engine loop. Times are CLOCK_MONOTONIC in ns, as TensorRT-LLM's are."""

    def __init__(
        self, detokenizer: Detokenizer, sampling: SamplingParams, *, arrival_ns: int, scheduled_ns: int
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = StopMatcher(sampling.stop)
        self.logprob = 0.0
        self._metrics: dict[str, float] = {
            "arrival_time_ns": arrival_ns,
            "first_scheduled_time_ns": scheduled_ns,
        }

    @property
    def metrics(self) -> dict[str, float]:
        """By names of tensors.PERFORMANCE_OUTPUTS, as far as known."""
        return self._metrics

    def push(self, event: Tokens, *, now_ns: int) -> Piece:
        """Take new tokens in."""
        if event.tokens:
            self._metrics.setdefault("first_token_time_ns", now_ns)
            self._metrics["last_token_time_ns"] = now_ns
            self.logprob += event.logprob
        if event.metrics:
            self._metrics.update(event.metrics)
        text = self._detokenizer.push(event.tokens)
        if event.finish:
            text += self._detokenizer.finish()
        text, stop = self._stops.push(text)
        if stop is not None:
            return Piece(text, "stop", stop)
        if event.finish:
            return Piece(text + self._stops.finish(), event.finish, event.stop_reason)
        return Piece(text)

    def abandon(self) -> str:
        """The text that was held back, for an answer that is cut short."""
        text, stop = self._stops.push(self._detokenizer.finish())
        return text if stop else text + self._stops.finish()
