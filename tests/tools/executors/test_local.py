"""The local executor: real worker processes that answer, fail, crash, hang and are interrupted."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from bwdeploy.errors import HostError, InterruptedBuild, ToolError
from bwdeploy.pipeline.jobs import ConvertGguf, Progress
from bwdeploy.tools import triton_guard
from bwdeploy.tools.executors import local_executor
from bwdeploy.tools.executors.executor import JobExecutor
from bwdeploy.tools.guarded_process import GuardedCommand
from tests.tools.executors.conftest import Site, is_alive, script, written_pid


def ignore(progress: Progress) -> None:
    del progress


def request(tmp_path: Path) -> ConvertGguf:
    (tmp_path / "x.gguf").write_bytes(b"not a gguf")
    return ConvertGguf(gguf=tmp_path / "x.gguf", out=tmp_path)


def stand_in(tmp_path: Path, script: str) -> JobExecutor:
    """An executor whose interpreter is a small shell script."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return local_executor(python=str(python))


def test_error_of_the_worker_arrives_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ToolError, match="GGUF") as error:
        local_executor().run(request(tmp_path), log=log, scratch=tmp_path, on_progress=ignore)
    assert error.value.log == log
    assert "Traceback" in log.read_text()
    assert error.value.last_lines == ()  # the message says it all; the traceback stays in the log


def test_progress_reports_arrive_and_other_output_is_ignored(tmp_path: Path) -> None:
    seen: list[Progress] = []
    executor = stand_in(tmp_path, 'echo noise; echo \'{"phase": "p", "done": 1, "total": 2}\'; exit 1')
    with pytest.raises(ToolError):
        executor.run(request(tmp_path), log=tmp_path / "log", scratch=tmp_path, on_progress=seen.append)
    assert seen == [Progress(phase="p", done=1, total=2)]


def test_crash_without_an_answer_names_status_and_last_lines(tmp_path: Path) -> None:
    executor = stand_in(tmp_path, "echo the reason >&2; exit 9")
    with pytest.raises(ToolError, match=r"convert_gguf\) ended with status 9") as error:
        executor.run(request(tmp_path), log=tmp_path / "log", scratch=tmp_path, on_progress=ignore)
    assert error.value.last_lines == ("the reason",)


def test_killed_worker_names_the_signal_and_suspects_memory(tmp_path: Path) -> None:
    executor = stand_in(tmp_path, "kill -9 $$")
    with pytest.raises(ToolError, match="SIGKILL") as error:
        executor.run(request(tmp_path), log=tmp_path / "log", scratch=tmp_path, on_progress=ignore)
    assert "out-of-memory" in error.value.hint


RUN_SLEEPER = """
import sys, threading, os, signal
from pathlib import Path
from bwdeploy.pipeline.jobs import ConvertGguf
from bwdeploy.tools.executors import local_executor
root = Path(sys.argv[1])
request = ConvertGguf(gguf=root / "x.gguf", out=root)
executor = local_executor(python=str(root / "python"))
executor.run(request, log=root / "log", scratch=root, on_progress=lambda progress: None)
"""


def test_interrupt_stops_the_worker_and_everything_it_started(tmp_path: Path) -> None:
    stand_in(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with subprocess.Popen(
        [sys.executable, "-c", RUN_SLEEPER, str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as cli:
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            time.sleep(0.02)
        cli.send_signal(signal.SIGINT)
        _, stderr = cli.communicate(timeout=20)
    assert InterruptedBuild.__name__ in stderr
    grandchild = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while is_alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(grandchild)


def test_worker_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """The real worker, kept busy by a named pipe that nobody writes to."""
    os.mkfifo(tmp_path / "x.gguf")
    stand_in(tmp_path, f'echo $$ > {tmp_path}/worker; exec {sys.executable} "$@"')
    with subprocess.Popen([sys.executable, "-c", RUN_SLEEPER, str(tmp_path)]) as cli:
        while not (tmp_path / "worker").exists() or not (tmp_path / "worker").read_text().strip():
            time.sleep(0.02)
        cli.kill()
    worker = int((tmp_path / "worker").read_text())
    deadline = time.monotonic() + 5
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)


def test_a_guard_that_is_left_at_once_still_ends_everything(tmp_path: Path) -> None:
    """The command line may die before the guard can tell it the process id."""
    (tmp_path / "program").write_text(f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/child; wait\n")
    (tmp_path / "program").chmod(0o755)
    job = GuardedCommand(
        command=(str(tmp_path / "program"),),
        env=dict(os.environ),
        cwd=str(tmp_path),
        log=str(tmp_path / "log"),
        grace_s=1,
        stack_bytes=resource.getrlimit(resource.RLIMIT_STACK)[0],
    )
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", triton_guard.__file__], stdin=subprocess.PIPE, stdout=writer
    ) as guard:
        os.close(writer)
        assert guard.stdin is not None
        guard.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        guard.stdin.flush()
        grandchild = written_pid(tmp_path / "child")
        guard.stdin.close()
        guard.wait(10)
    assert not is_alive(grandchild)


def test_several_tasks_on_one_machine_run_under_mpi(site: Site) -> None:
    with pytest.raises(HostError, match="no program mpirun on PATH"):
        site.run("local", site.tool("build", tasks=2))
    script(site.root / "bin/mpirun", '#!/bin/sh\n[ "$1 $2" = "-n 2" ] || exit 1\nshift 2\nexec "$@"\n')
    result = site.run("local", site.tool("build", tasks=2))
    assert Path(result.command[0]).name == "mpirun"
    assert (site.out / "engine").exists()
