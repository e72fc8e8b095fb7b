"""How Slurm says that it ended a job, and what to do about each."""

from __future__ import annotations

from typing import Final, NamedTuple


class Ending(NamedTuple):
    """One final state of accounting."""

    words: str
    hint: str


ENDINGS: Final = {
    "TIMEOUT": Ending(
        "reached its time limit", "Raise slurm.time_limit in the executor file, or choose a longer partition"
    ),
    "OUT_OF_MEMORY": Ending(
        "ran out of memory", "Ask for more: slurm.options: {mem: 256G}, or exclusive: true with mem: 0"
    ),
    "NODE_FAIL": Ending(
        "lost a node", "Nothing is wrong with the job: run the same command again; finished stages are kept"
    ),
    "BOOT_FAIL": Ending(
        "got a node that did not start",
        "Run the same command again, or exclude it: slurm.options: {exclude: NODE}",
    ),
    "PREEMPTED": Ending(
        "had to make room for another job",
        "Run the same command again, or choose a partition or slurm.options: {qos: …} that is not preempted",
    ),
    "CANCELLED": Ending(
        "was cancelled by scancel or an administrator", "Run the same command again; finished stages are kept"
    ),
    "DEADLINE": Ending("passed its deadline", "Remove slurm.options.deadline, or set a later one"),
    "REVOKED": Ending(
        "was moved to another cluster", "Name one cluster with slurm.options: {clusters: NAME}"
    ),
}
RUNNING_STATES: Final = frozenset(
    {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"}
)
"""Accounting may still say these for a moment after the queue forgot the job."""
