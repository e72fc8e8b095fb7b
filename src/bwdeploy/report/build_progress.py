"""A build as its user watches it: a bar with the time left on a terminal, plain lines elsewhere.

Everything goes to stderr; results belong to stdout.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from bwdeploy.pipeline.jobs import Progress as JobProgress
    from bwdeploy.pipeline.run import StageResult


class BuildDisplay:
    """The `Watcher` of the command line."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._task: TaskID | None = None
        self._phase = ""

    def started(self, stage: str) -> None:
        """See `Watcher.started`."""
        self._clear()
        self._task = self._bars.add_task(stage, total=None)
        if not self._console.is_terminal:
            self._console.print(f"{stage}: started", highlight=False)

    def progressed(self, stage: str, progress: JobProgress) -> None:
        """See `Watcher.progressed`."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._clear()
            self._task = self._bars.add_task(f"{stage}: {progress.phase}", total=None)
            if not self._console.is_terminal:
                self._console.print(f"{stage}: {progress.phase}", highlight=False)
        if self._task is not None:
            self._bars.update(self._task, completed=progress.done, total=progress.total or None)

    def waiting(self, stage: str) -> None:
        """See `Watcher.waiting`."""
        self._console.print(f"{stage}: another build is making it; waiting for that", highlight=False)

    def finished(self, result: StageResult) -> None:
        """See `Watcher.finished`."""
        self._clear()
        how = "in the store" if result.status == "cached" else f"built in {result.seconds:.1f} s"
        size = _size(result.artifact.size_bytes)
        self._console.print(f"{result.name:<11} {how:<18} {size:>9}  {result.key[:12]}", highlight=False)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


@contextmanager
def build_display() -> Iterator[BuildDisplay]:
    """Show a build on stderr for as long as the context lasts."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield BuildDisplay(console, bars)


def _size(size_bytes: int) -> str:
    megabyte = 1_000_000
    return f"{size_bytes / megabyte:.1f} MB" if size_bytes >= megabyte else f"{size_bytes / 1000:.1f} kB"
