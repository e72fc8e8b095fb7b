"""A stand-in for sbatch, srun, squeue, sacct and scancel: one small cluster in $STAND_IN_STATE/slurm.

A job is a process of its own that outlives its submitter. It gets the variables that --export names and
those of Slurm, nothing else. Files in the state directory make the cluster behave: `hold` keeps jobs
pending, `slow-answer` keeps sbatch from telling their number, `end-as` holds the final state that befalls
them, `controller-down` and `no-accounting` silence squeue and sacct, `pyxis` installs the plugin. A job of a
named cluster is known only to commands that name it too.
Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.tools.executors.isolation import Mount, isolated

PROGRAM = Path(sys.argv[0]).name
STATE = Path(os.environ["STAND_IN_STATE"])
JOBS = STATE / "slurm"
PARTITIONS = {None, "gpu", "debug"}
LIVE = {"PENDING", "RUNNING", "COMPLETING"}
KILLING = {"TIMEOUT", "NODE_FAIL", "PREEMPTED", "CANCELLED"}


def refuse(message: str) -> NoReturn:
    sys.stderr.write(f"{PROGRAM}: {message}\n")
    raise SystemExit(1)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        found = re.search(r"unrecognized arguments: (\S+)", message)
        sys.stderr.write(f"{PROGRAM}: unrecognized option '{found.group(1) if found else message}'\n")
        refuse(f'Try "{PROGRAM} --help" for more information')


def options_of(words: list[str], *, valued: str, flags: str) -> tuple[argparse.Namespace, list[str]]:
    """Options come before the command; each long option takes its value after "="."""
    parser = Parser(allow_abbrev=False, add_help=False)
    for name in valued.split():
        parser.add_argument(f"--{name}")
    for name in flags.split():
        parser.add_argument(f"--{name}", action="store_true")
    first = next((number for number, word in enumerate(words) if not word.startswith("-")), len(words))
    return parser.parse_args(words[:first]), words[first:]


def sbatch(words: list[str]) -> int:
    options, rest = options_of(
        words,
        valued="job-name output error export nodes ntasks ntasks-per-node gpus-per-node partition account"
        " time qos mem gres constraint cpus-per-task clusters",
        flags="parsable no-requeue requeue exclusive",
    )
    if not rest:
        refuse("error: This stand-in reads no script from standard input")
    script = Path(rest[0])
    if not script.read_text().startswith("#!"):
        refuse("error: This does not look like a batch script.")
    if options.partition not in PARTITIONS:
        sys.stderr.write(f"sbatch: error: invalid partition specified: {options.partition}\n")
        refuse("error: Batch job submission failed: Invalid partition name specified")
    JOBS.mkdir(exist_ok=True)
    number = str(1000 + len(list(JOBS.iterdir())))
    (JOBS / number).mkdir()
    exported = (options.export or "ALL").split(",")
    job = {
        "name": options.job_name,
        "cluster": options.clusters,
        "script": str(script.absolute()),
        "directory": str(Path.cwd()),
        "output": options.output or f"slurm-{number}.out",
        "error": options.error or options.output,
        "environment": {
            name: value
            for name, value in os.environ.items()
            if "ALL" in exported or name in exported or name.startswith("STAND_IN")
        }
        | {"SLURM_JOB_ID": number, "SLURM_EXPORT_ENV": options.export or "ALL"},
        "words": words,
    }
    (JOBS / number / "job.partial").write_text(json.dumps(job))
    (JOBS / number / "job.partial").replace(JOBS / number / "job.json")
    set_state(number, "PENDING")
    subprocess.Popen(
        [sys.argv[0], "--run-job", number],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while (STATE / "slow-answer").exists():
        time.sleep(0.02)
    parsable = f"{number};{options.clusters}\n" if options.clusters else f"{number}\n"
    sys.stdout.write(parsable if options.parsable else f"Submitted batch job {number}\n")
    return 0


def run_job(number: str) -> int:
    """What slurmctld and slurmd do for one job."""
    while (STATE / "hold").exists() and state(number) == "PENDING":
        time.sleep(0.02)
    if state(number) != "PENDING":
        return 0
    job = json.loads((JOBS / number / "job.json").read_text())
    os.chdir(job["directory"])
    with Path(job["output"]).open("ab") as output, Path(job["error"]).open("ab") as error:
        process = subprocess.Popen(
            ["/bin/bash", job["script"]],
            env=job["environment"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=error,
            start_new_session=True,
        )
        (JOBS / number / "pid").write_text(str(process.pid))
        set_state(number, "RUNNING")
        fate = (STATE / "end-as").read_text() if (STATE / "end-as").exists() else ""
        if fate in KILLING:
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    if state(number) == "RUNNING":
        set_state(number, fate or ("COMPLETED" if status == 0 else "FAILED"))
    return 0


def state(number: str) -> str:
    return (JOBS / number / "state").read_text()


def set_state(number: str, text: str) -> None:
    partial = JOBS / number / f"state.{os.getpid()}"
    partial.write_text(text)
    partial.replace(JOBS / number / "state")


def srun(words: list[str]) -> int:
    options, command = options_of(
        words,
        valued="export kill-on-bad-exit nodes ntasks ntasks-per-node cpus-per-task mpi"
        + " container-image container-mounts container-workdir container-env" * (STATE / "pyxis").exists(),
        flags="no-container-mount-home container-writable" * (STATE / "pyxis").exists(),
    )
    if "SLURM_JOB_ID" not in os.environ:
        refuse("error: Unable to allocate resources: this stand-in needs a job")
    names = (options.export or os.environ["SLURM_EXPORT_ENV"]).split(",")
    given = {
        name: value
        for name, value in os.environ.items()
        if "ALL" in names or name in names or name.startswith(("SLURM_", "STAND_IN"))
    }
    if getattr(options, "container_image", None):
        command = contained(options, command, given)
    elif shutil.which(command[0], path=given.get("PATH")) is None:
        sys.stderr.write(f"slurmstepd: error: execve(): {command[0]}: No such file or directory\n")
        return 2
    count = int(options.ntasks or 1)
    tasks = [
        subprocess.Popen(command, env={**given, "SLURM_PROCID": str(rank), "SLURM_NTASKS": str(count)})
        for rank in range(count)
    ]
    statuses = [task.wait() for task in tasks]
    return max(128 - status if status < 0 else status for status in statuses)


def contained(options: argparse.Namespace, command: list[str], given: dict[str, str]) -> list[str]:
    image = options.container_image
    known = json.loads((STATE / "images.json").read_text())
    if image not in known and not Path(image).is_file():
        sys.stderr.write("slurmstepd: error: pyxis: failed to import docker image\n")
        raise SystemExit(1)
    given["PATH"] = f"{STATE}/image/bin:/usr/bin:/bin"  # of the image, which wins over the host's
    mounts = []
    for entry in options.container_mounts.split(","):
        source, target, *flags = entry.split(":")
        if source != target or not Path(source).exists():
            refuse(f"error: pyxis: could not add mount entry: {entry}")
        mounts.append(Mount(target, flags != ["ro"]))
    return isolated(command, mounts=mounts, directory=str(options.container_workdir))


def jobs_on(clusters: str | None) -> dict[str, dict[str, Any]]:
    jobs = {path.parent.name: json.loads(path.read_text()) for path in JOBS.glob("*/job.json")}
    return {number: job for number, job in jobs.items() if job["cluster"] == clusters}


def squeue(words: list[str]) -> int:
    options, _ = options_of(words, valued="jobs format name clusters", flags="noheader me")
    if (STATE / "controller-down").exists():
        sys.stderr.write("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
        return 1
    if options.clusters:
        sys.stdout.write(f"CLUSTER: {options.clusters}\n")  # newer versions heed --noheader here too
    known = jobs_on(options.clusters)
    if options.jobs and options.jobs not in known:
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return 1
    for number in [options.jobs] if options.jobs else known:
        job = known[number]
        now = state(number)
        if now in LIVE and options.name in {None, job["name"]}:
            reason = "Resources" if now == "PENDING" else "None"
            text = options.format.replace("%T", now).replace("%r", reason).replace("%A", number)
            sys.stdout.write(text + "\n")
    return 0


def sacct(words: list[str]) -> int:
    options, _ = options_of(words, valued="jobs format clusters", flags="noheader allocations parsable2")
    if (STATE / "no-accounting").exists():
        sys.stderr.write("Slurm accounting storage is disabled\n")
        return 1
    if options.format != "State,ExitCode":
        refuse(f"error: Invalid field requested: {options.format!r}")
    if options.jobs in jobs_on(options.clusters):
        now = state(options.jobs)
        shown = f"CANCELLED by {os.getuid()}" if now == "CANCELLED" else now
        sys.stdout.write(f"{shown}|0:0\n")
    return 0


def scancel(words: list[str]) -> int:
    options, rest = options_of(words, valued="name clusters", flags="me")
    for number, job in jobs_on(options.clusters).items():
        wanted = number in rest or (not rest and options.name == job["name"])
        if wanted and state(number) in LIVE:
            set_state(number, "CANCELLED")
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.killpg(int((JOBS / number / "pid").read_text()), signal.SIGKILL)
    return 0


def main() -> int:
    if sys.argv[1:2] == ["--run-job"]:
        return run_job(sys.argv[2])
    with (STATE / "calls.jsonl").open("a") as record:
        record.write(json.dumps([PROGRAM, *sys.argv[1:]]) + "\n")
    return {"sbatch": sbatch, "srun": srun, "squeue": squeue, "sacct": sacct, "scancel": scancel}[PROGRAM](
        sys.argv[1:]
    )
