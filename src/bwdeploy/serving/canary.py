"""Prove that the model answers: one generated token before a deadline.

Triton's own readiness routes stay at 200 after the model's process died or hung, so they are not asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from bwdeploy.errors import ToolError
from bwdeploy.serving.client import GenerationError, Sampling, collect
from bwdeploy.serving.http_client import generate

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.serving.client import Endpoint

_PROMPT: Final = "Hello"
_PAUSE_S: Final = 0.5


class Living(Protocol):
    """A server process that can say that it ended."""

    def check_alive(self) -> None:
        """Raise ToolError when it ended."""


def probe(endpoint: Endpoint, *, deadline_s: float) -> float:
    """Generate one token and return the seconds it took.

    Raises:
        GenerationError: no answer within the deadline, or an error instead.
    """
    return collect(generate(endpoint, _PROMPT, Sampling(max_tokens=1), idle_s=deadline_s)).seconds


def wait_until_answering(
    server: Living,
    endpoint: Endpoint,
    *,
    timeout_s: float,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> float:
    """Probe until the model answers; returns the seconds of the answer that came.

    Raises:
        ToolError: the server ended, or the model did not answer within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        server.check_alive()
        try:
            return probe(endpoint, deadline_s=max(1.0, deadline - time.monotonic()))
        except GenerationError as error:
            if time.monotonic() + _PAUSE_S > deadline:
                raise ToolError(
                    f"The model {endpoint.model} gave no answer within {timeout_s:g} s: {error.message}",
                    hint="Read the server's log; raise serve.startup_timeout_s if the model is only slow.",
                ) from error
            on_progress(f"waiting for the model: {error.message}")
        time.sleep(_PAUSE_S)
