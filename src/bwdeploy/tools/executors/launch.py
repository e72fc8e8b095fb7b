"""What an executor starts, and how it ended: the same data for this machine, a container and Slurm.

A launcher turns a `Launch` into a command of its own world, waits, and gives an `Outcome`. It knows nothing
of what the command means; the worker protocol and outside programs stand on top of it (`worker_jobs`,
`programs`).
"""

from __future__ import annotations

import hashlib
import signal
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from bwdeploy.pipeline.jobs import ProgramNeed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Progress

LauncherKind = Literal["local", "container", "slurm"]

_FIRST_SIGNAL_STATUS = 128
_TAIL_BYTES = 262_144
_SHOWN_LINES = 15


class Launch(NamedTuple):
    """One command to run somewhere; its paths are those of this machine."""

    command: tuple[str, ...]
    scratch: Path
    """Its current directory, always writable."""
    log: Path
    """Receives what it writes to standard error, and to standard output unless `output` is given."""
    identity: str
    """Digest of what is asked for: a running job with the same one gives the same result."""
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    environment: Mapping[str, str] = {}
    """Variables it gets on top of what its place gives it."""
    gpus: int = 0
    """On each node."""
    nodes: int = 1
    tasks: int = 1
    tensorrt_llm: str = ""
    """The version that must be there; empty when it does not matter."""
    network: bool = False
    """Whether it must reach another machine."""
    output: Path | None = None
    """Receives standard output; below `scratch`."""
    answer: Path | None = None
    """A file that it writes at its end; below `scratch`."""

    @property
    def need(self) -> ProgramNeed:
        """What must be there before it can start."""
        return ProgramNeed(
            program=self.command[0],
            tensorrt_llm=self.tensorrt_llm,
            gpus=self.gpus,
            nodes=self.nodes,
            tasks=self.tasks,
        )


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    """Exit status; 128 + n when signal n killed it."""
    command: tuple[str, ...]
    """The whole command line as it was started."""
    image: str | None = None
    image_digest: str | None = None
    ended: str = ""
    """How it ended, when the status alone does not say it, for example a time limit."""
    hint: str = ""


class Watch(NamedTuple):
    """Who looks on while a command runs."""

    on_progress: Callable[[Progress], None]
    look: Callable[[], None] = lambda: None
    """Called again and again, and once after the end."""


class Launcher(Protocol):
    """Runs commands in one kind of place."""

    @property
    def kind(self) -> LauncherKind:
        """The kind of place."""
        ...

    def require(self, need: ProgramNeed) -> None:
        """Raise what `run` would raise before it starts a command with this need; nothing is fetched.

        Raises:
            HostError: the place is not there, or cannot have what the command needs.
        """
        ...

    def run(self, launch: Launch, watch: Watch) -> Outcome:
        """Start the command, wait for its end and leave nothing of it behind.

        Raises:
            HostError: the place is not there, or refuses.
            InterruptedBuild: the user interrupted; nothing of it runs on.
        """
        ...


def identity_of(text: str) -> str:
    """The digest that tells one request from another."""
    return hashlib.sha256(text.encode()).hexdigest()


def start_afresh(launch: Launch) -> None:
    """Empty the files of an earlier run in the same place."""
    launch.log.write_bytes(b"")
    if launch.output is not None:
        launch.output.write_bytes(b"")
    if launch.answer is not None:
        launch.answer.unlink(missing_ok=True)


def killed_by(status: int) -> signal.Signals | None:
    """The signal that an exit status stands for, if it does."""
    try:
        return signal.Signals(status - _FIRST_SIGNAL_STATUS)
    except ValueError:
        return None


def end_of(outcome: Outcome) -> str:
    """How it ended, in words that follow its name."""
    if outcome.ended:
        return outcome.ended
    killer = killed_by(outcome.status)
    if killer is not None:
        return f"was killed by signal {killer.value} ({killer.name})"
    return f"ended with status {outcome.status}"


def log_tail(log: Path) -> tuple[str, ...]:
    """The lines at the end of a log file that are not blank; none when there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(line for line in lines if line.strip())


def last_lines(log: Path) -> tuple[str, ...]:
    """The last lines of a log file, for an error message."""
    return log_tail(log)[-_SHOWN_LINES:]
