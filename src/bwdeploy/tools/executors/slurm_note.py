"""The note of a cluster job that goes on without us, so that the next run finds it again."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from bwdeploy.pipeline.store import RUNNING_JOB
from bwdeploy.tools.executors.slurm_client import Job


class RunningJob(NamedTuple):
    """What the note says."""

    identity: str
    """Of the request that it answers."""
    name: str
    """The job's unique name; written before the job exists."""
    job: Job | None = None
    """None when we died before Slurm gave it a number."""
    clusters: str = ""
    """Where it was to run, as for --clusters; empty where sbatch was told none."""


def read_note(scratch: Path) -> RunningJob | None:
    """The note in `scratch`; None when there is none that can be read."""
    try:
        data = json.loads((scratch / RUNNING_JOB).read_text(encoding="utf-8"))
        job = Job(str(data["job"]), str(data["cluster"])) if data["job"] else None
        return RunningJob(str(data["request"]), str(data["name"]), job, str(data["clusters"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_note(scratch: Path, note: RunningJob) -> None:
    """Write it whole or not at all."""
    job = note.job or Job("")
    text = json.dumps(
        {"executor": "slurm", "request": note.identity, "name": note.name, "job": job.id,
         "cluster": job.cluster, "clusters": note.clusters}
    )  # fmt: skip
    with tempfile.NamedTemporaryFile("w", dir=scratch, prefix=f".{RUNNING_JOB}.", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(scratch / RUNNING_JOB)


def remove_note(scratch: Path) -> None:
    """The job is over."""
    (scratch / RUNNING_JOB).unlink(missing_ok=True)
