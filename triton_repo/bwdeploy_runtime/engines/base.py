"""The protocol that every engine speaks with the engine loop, and the choice of the engine.

An engine turns prompts into tokens. It knows nothing of sockets, responses, stop strings or text: the
loop in `worker` detokenizes, matches, gathers and sends, in the same way for all engines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.protocol import RequestFailed
    from bwdeploy_runtime.sampling import SamplingParams
    from bwdeploy_runtime.worker.text import Detokenizer


@dataclass(frozen=True)
class Request:
    """One prompt with checked parameters."""

    id: str
    prompt: str
    sampling: SamplingParams


class Tokens(NamedTuple):
    """New tokens of one answer; a tuple because there may be 100,000 a second."""

    id: str
    tokens: Sequence[int]
    logprob: float = 0.0
    """Sum over `tokens`, natural logarithm, before temperature and penalties."""
    finish: str | None = None
    """None, stop (the model ended the answer) or length."""
    stop_reason: str | None = None
    metrics: dict[str, float] | None = None
    """With the last tokens: values that only the engine knows, by names of tensors.PERFORMANCE_OUTPUTS."""


@dataclass(frozen=True)
class EngineInfo:
    """What was loaded."""

    engine: str
    """Name and version of what runs the model."""
    device: str
    max_seq_len: int | None
    """Prompt plus answer in tokens; None: no limit."""
    kernels: Mapping[str, int] = field(default_factory=dict)
    """Op of the kernel pack → modules of the model that call it."""


class Engine(Protocol):
    """All methods but `kernel_calls` are called from the engine loop's thread."""

    def load(self, config: EngineConfig, directory: Path, *, wake: Callable[[], None]) -> EngineInfo:
        """Load the model of `directory`; `wake` may be called from any thread when `step` has news.

        Raises:
            EngineError: it cannot be loaded; says what is missing and the way out.
        """
        ...

    def detokenizer(self) -> Detokenizer:
        """A fresh one for one answer."""
        ...

    def submit(self, request: Request) -> None:
        """Take a request.

        Raises:
            InvalidRequestError: it does not fit, for example because the prompt is too long.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """Stop working on a request and free its place; an unknown or finished id is fine."""
        ...

    def step(self) -> Sequence[Tokens | RequestFailed]:
        """What is new. May compute for a while, but never waits."""
        ...

    def pause_s(self) -> float | None:
        """How long an empty-handed `step` should be left alone; 0 not at all, None until `wake`."""
        ...

    def kernel_calls(self) -> Mapping[str, int]:
        """Op of the kernel pack → how often it has run in this process; from any thread, once loaded."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...
