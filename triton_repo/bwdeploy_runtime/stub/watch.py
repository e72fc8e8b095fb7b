"""Decides from the signs of life of an engine process whether it hangs. Pure: the clock is passed in."""

from __future__ import annotations


class ProgressWatch:
    """An engine hangs when nothing comes from it, or when it has requests and its steps stand still."""

    def __init__(self, *, stall_timeout_s: float, now_s: float) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._last_sign_s = now_s
        self._last_progress_s = now_s
        self._steps = 0

    def sign(self, now_s: float) -> None:
        """Anything was received."""
        self._last_sign_s = now_s

    def steps(self, steps: int, now_s: float) -> None:
        """The engine's step counter was received."""
        if steps != self._steps:
            self._steps = steps
            self._last_progress_s = now_s

    def verdict(self, *, running: int, now_s: float) -> str | None:
        """Why the engine is taken for hung; None: it is not."""
        if not running:
            self._last_progress_s = now_s
        silent_s = now_s - self._last_sign_s
        stalled_s = now_s - self._last_progress_s
        if max(silent_s, stalled_s) <= self._stall_timeout_s:
            return None
        # A living process beats four times in this time, so half of it without a beat tells a dead one from
        # one that beats and does nothing.
        if silent_s > self._stall_timeout_s / 2:
            return f"gave no sign of life for {silent_s:.0f} s"
        return f"made no progress on {running} requests for {stalled_s:.0f} s"
