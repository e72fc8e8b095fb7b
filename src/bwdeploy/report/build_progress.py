"""A build as its user watches it: a bar with the time left on a terminal, plain lines elsewhere.

Everything goes to stderr; results belong to stdout. Where nothing can be drawn anew, a phase that takes long
is told again each minute, so that a log of CI shows that the build lives.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

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
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import RenderableType
    from rich.progress import TaskID

    from bwdeploy.pipeline.jobs import Progress as JobProgress
    from bwdeploy.pipeline.run import StageResult


_REPEATED_S: Final = 60.0


class BuildDisplay:
    """The `Watcher` of the command line."""

    def __init__(
        self, console: Console, bars: Progress, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._bars = bars
        self._clock = clock
        self._task: TaskID | None = None
        self._phase = ""
        self._began = self._told = clock()

    def started(self, stage: str) -> None:
        """See `Watcher.started`."""
        self._phase = ""
        self._began = self._clock()
        self._draw(stage)
        self._log(f"{stage}: started")

    def progressed(self, stage: str, progress: JobProgress) -> None:
        """See `Watcher.progressed`."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._draw(f"{stage}: {progress.phase}")
            self._log(f"{stage}: {_words(progress)}")
        elif self._clock() - self._told >= _REPEATED_S:
            minutes = int(self._clock() - self._began) // 60
            self._log(f"{stage}: after {minutes} min: {_words(progress)}")
        if self._task is not None:
            self._bars.update(
                self._task, completed=progress.done, total=progress.total or None, detail=progress.detail
            )

    def waiting(self, stage: str) -> None:
        """See `Watcher.waiting`."""
        self._print(f"{stage}: another build is making it; waiting for that")

    def finished(self, result: StageResult) -> None:
        """See `Watcher.finished`."""
        self._clear()
        how = "in the store" if result.status == "cached" else f"built in {result.seconds:.1f} s"
        size = _size(result.artifact.size_bytes)
        self._print(f"{result.name:<11} {how:<18} {size:>9}  {result.key[:12]}")

    def _draw(self, description: str) -> None:
        self._clear()
        self._task = self._bars.add_task(description, total=None)

    def _log(self, line: str) -> None:
        """A line for those who see no bar."""
        self._told = self._clock()
        if not self._console.is_terminal:
            self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


class _Bars(Progress):
    """Bars, and below each what its job said last."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines to draw."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields.get("detail"):
                yield Text(f"  {task.fields['detail']}", style="dim", no_wrap=True, overflow="ellipsis")


@contextmanager
def build_display() -> Iterator[BuildDisplay]:
    """Show a build on stderr for as long as the context lasts."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with _Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield BuildDisplay(console, bars)


def _words(progress: JobProgress) -> str:
    counted = f" {progress.done:,} of {progress.total:,}" if progress.done and progress.total else ""
    detail = f" ({progress.detail})" if progress.detail else ""
    return progress.phase + counted + detail


def _size(size_bytes: int) -> str:
    megabyte = 1_000_000
    return f"{size_bytes / megabyte:.1f} MB" if size_bytes >= megabyte else f"{size_bytes / 1000:.1f} kB"
