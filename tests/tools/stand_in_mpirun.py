"""A stand-in for Open MPI's `mpirun` on one machine: holds its caller to its rules, then runs the ranks here.

It takes the options that are needed and refuses others as the real parser would; contexts are separated by
a colon; every rank gets its variables; one rank that ends badly ends the job; SIGTERM goes to all ranks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

FLAGS = {"--allow-run-as-root", "--oversubscribe"}
VALUES = {"--bind-to": {"none", "core", "socket"}}


def refuse(reason: str) -> None:
    sys.stderr.write(f"mpirun: Error: {reason}\n")
    raise SystemExit(1)


def contexts(words: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in words:
        if word == ":":
            found.append([])
        else:
            found[-1].append(word)
    return found


def ranks_of(context: list[str], *, first: bool) -> list[list[str]]:
    count, at = 1, 0
    while at < len(context) and context[at].startswith("-"):
        option = context[at]
        if option in {"-n", "-np"}:
            count, at = int(context[at + 1]), at + 2
        elif option in FLAGS and first:
            at += 1
        elif option in VALUES and first and context[at + 1] in VALUES[option]:
            at += 2
        else:
            refuse(f"unknown option {option!r}")
    if at == len(context):
        refuse("No executable was specified on the mpirun command line.")
    return [context[at:]] * count


def main() -> int:
    all_contexts = contexts(sys.argv[1:])
    if os.getuid() == 0 and "--allow-run-as-root" not in all_contexts[0]:
        refuse("mpirun has detected an attempt to run as root.")
    commands = [
        command
        for number, context in enumerate(all_contexts)
        for command in ranks_of(context, first=number == 0)
    ]
    ranks = [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                "OMPI_COMM_WORLD_RANK": str(rank),
                "OMPI_COMM_WORLD_SIZE": str(len(commands)),
            },
        )
        for rank, command in enumerate(commands)
    ]
    told = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal told
        told = True
        for rank in ranks:
            rank.terminate()

    signal.signal(signal.SIGTERM, stop)
    while any(rank.poll() is None for rank in ranks):
        failed = [rank.returncode for rank in ranks if rank.poll()]
        if failed and not told:
            sys.stderr.write("mpirun noticed that a process exited on its own; the job is ended\n")
            for rank in ranks:
                rank.kill()
            return failed[0]
        time.sleep(0.05)
    return max(rank.returncode for rank in ranks)


if __name__ == "__main__":
    raise SystemExit(main())
