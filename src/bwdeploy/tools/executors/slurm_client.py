"""The commands of Slurm: sbatch, squeue, sacct and scancel. Typed words in, typed answers out.

Each runs in a session of its own, so that Ctrl-C in the terminal does not cut an answer short.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from bwdeploy.errors import HostError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 120.0
_UNKNOWN_JOB: Final = "invalid job id"
_NO_ANSWER_STATUS = 1
_HEADING: Final = "CLUSTER:"
"""Older versions of squeue write it for --clusters, with --noheader too."""


class Job(NamedTuple):
    """A job of the cluster."""

    id: str
    cluster: str = ""
    """Only where one front end serves several clusters."""


class QueueState(NamedTuple):
    """What squeue says of a job."""

    state: str
    """PENDING, RUNNING, …; empty when the queue does not know the job any more."""
    reason: str = ""
    """Why it waits."""


def require_commands() -> None:
    """Look for what every job needs; none of it is started.

    Raises:
        HostError: one is not on PATH.
    """
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise _missing(program)


def submit(words: tuple[str, ...], *, directory: Path) -> Job:
    """`sbatch --parsable WORDS` from `directory`, which becomes the job's.

    Raises:
        HostError: there is no sbatch, or the queue rejects the job; with sbatch's own words.
    """
    done = _call(("sbatch", "--parsable", *words), directory=directory)
    job, _, cluster = done.stdout.strip().partition(";")
    if done.returncode != 0 or not job.isdecimal():
        raise HostError(
            f"Slurm did not take the job: {_words(done) or 'sbatch gave no reason'}",
            hint="Check the section slurm of the executor file against `sinfo` and `sacctmgr show assoc`",
        )
    return Job(job, cluster)


def queue_state(job: Job) -> QueueState | None:
    """Where the job stands in the queue; None when Slurm does not answer."""
    done = _call(("squeue", *_on(job.cluster), "--noheader", f"--jobs={job.id}", "--format=%T|%r"))
    if done.returncode == 0:
        state, _, reason = "".join(_lines(done)[:1]).partition("|")
        return QueueState(state, "" if reason == "None" else reason)
    return QueueState("") if _UNKNOWN_JOB in done.stderr.lower() else None


def job_called(name: str, *, clusters: str) -> Job | None:
    """The job in the queue of one of the clusters (as for --clusters) that has this name, or None."""
    for cluster in clusters.split(","):
        done = _call(("squeue", *_on(cluster), "--noheader", f"--name={name}", "--format=%A"))
        found = _lines(done)
        if done.returncode == 0 and found:
            return Job(found[0], cluster)
    return None


def final_state(job: Job) -> str:
    """What accounting says of an ended job, for example `TIMEOUT`; empty when it says nothing."""
    done = _call(
        ("sacct", *_on(job.cluster), "--noheader", "--allocations", "--parsable2", f"--jobs={job.id}",
         "--format=State,ExitCode")
    )  # fmt: skip
    if done.returncode != 0:
        return ""
    state = done.stdout.strip().partition("|")[0]
    return state.split()[0] if state else ""  # "CANCELLED by 1000"


def cancel(words: tuple[str, ...]) -> bool:
    """Give the order `cancel_words` or `cancel_called_words`; whether Slurm took it."""
    return _call(words).returncode == 0


def cancel_words(job: Job) -> tuple[str, ...]:
    """The command that ends the job."""
    return ("scancel", *_on(job.cluster), job.id)


def cancel_called_words(name: str, *, clusters: str) -> tuple[str, ...]:
    """The command that ends whatever has this name on these clusters."""
    return ("scancel", *_on(clusters), f"--name={name}")


def _on(clusters: str) -> tuple[str, ...]:
    return (f"--clusters={clusters}",) if clusters else ()


def _lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = (line.strip() for line in done.stdout.splitlines())
    return [line for line in lines if line and not line.startswith(_HEADING)]


def _missing(program: str) -> HostError:
    return HostError(
        f"There is no {program} on PATH",
        hint="Run this on a login node of the cluster, or use --executor container",
    )


def _words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines()]
    return "; ".join(line for line in lines if line)


def _call(words: tuple[str, ...], *, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words,
            capture_output=True,
            check=False,
            cwd=directory,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise _missing(words[0]) from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, _NO_ANSWER_STATUS, "", f"no answer in {_TIMEOUT_S:g} s")
