"""Show that a program lives: its phase again and again, with the last line of its log.

An engine takes an hour and reports no progress of its own. The line is a copy for people; nothing is read
out of it.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.tools.executors.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BETWEEN_S: Final = 0.5
_TAIL_BYTES: Final = 4096
_LONGEST: Final = 300
_TERMINAL_CODE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class LogProgress:
    """Passes progress on, and between it the last line of a log."""

    def __init__(self, log: Path, on_progress: Callable[[Progress], None]) -> None:
        self._follower = Follower(log)
        self._on_progress = on_progress
        self._progress = Progress(phase="")
        self._tail = b""
        self._looked = time.monotonic()

    def tell(self, progress: Progress) -> None:
        """The program, or its place, got further."""
        self._progress = progress
        self._on_progress(progress)

    def look(self) -> None:
        """Call it again and again: now and then it tells what the log says."""
        now = time.monotonic()
        if now - self._looked < _BETWEEN_S:
            return
        self._looked = now
        self._tail = (self._tail + self._follower.added())[-_TAIL_BYTES:]
        said = _last_line(self._tail.decode(errors="replace"))
        if said:
            self._progress = self._progress.model_copy(update={"detail": said})
        self._on_progress(self._progress)


def _last_line(text: str) -> str:
    """The last line that says something; a bar that is drawn over itself counts as many lines."""
    lines = (_readable(line) for line in reversed(re.split(r"[\r\n]", text)))
    return next((line for line in lines if line), "")


def _readable(line: str) -> str:
    shown = _TERMINAL_CODE.sub("", line)
    return "".join(sign for sign in shown if sign.isprintable()).strip()[:_LONGEST]
