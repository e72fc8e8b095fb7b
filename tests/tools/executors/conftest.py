"""A site to run jobs on: stand-ins for container programs and Slurm on PATH, and the user's own files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bwdeploy.errors import InterruptedBuild
from bwdeploy.pipeline.jobs import Progress, ToolResult, ToolRun
from bwdeploy.tools.executors import executor, local_executor
from bwdeploy.tools.executors.executor import JobExecutor
from bwdeploy.tools.executors.settings_file import read_settings

PROJECT = Path(__file__).parents[3]
STAND_INS = {
    "docker": "container",
    "podman": "container",
    "enroot": "enroot",
    "sbatch": "slurm",
    "srun": "slurm",
    "squeue": "slurm",
    "sacct": "slurm",
    "scancel": "slurm",
}
IMAGE = "nvcr.io/nvidia/tritonserver:26.06-trtllm-python-py3"
DIGEST = "sha256:" + "ab" * 32
BUILDER = """#!/bin/sh
# trtllm-build MODE IN OUT
case "$1" in
build) cat "$2/config.json" > "$3/engine"; pwd > "$3/where"; env > "$3/env"; echo "[TRT-LLM] built" ;;
fail) echo "first line"; echo "[TRT] the reason" >&2; exit 7 ;;
die) kill -9 $$ ;;
sleep) sleep 61 & echo $! > "$3/child"; echo $$ > "$3/pid"; exec sleep 60 ;;
slow)
  echo $$ > "$3/pid"
  echo "started"
  while [ ! -e "$2/go" ]; do sleep 0.02; done
  echo again >> "$3/engine" ;;
trespass) sh -c 'echo spoiled > "$1"' sh "$2/config.json"; cat "$2/../private" ;;
rank) echo "$SLURM_PROCID of $SLURM_NTASKS" > "$3/rank$SLURM_PROCID" ;;
*) printf '%s\\n' "$@" > "$3/words"; exit 0 ;;
esac
"""
WORKER = """
import json, os, sys
from pathlib import Path
job = json.loads(Path(sys.argv[3]).read_text())
print(json.dumps({"phase": "convert", "done": 1, "total": 2}), flush=True)
print("noise of a library")
print("to the log", file=sys.stderr)
words = Path(job["request"]["gguf"]).read_text()
Path(job["request"]["out"], "made").write_text(words)
result = {"architecture": words, "parameters": 1, "seconds": 0.0, "peak_memory_bytes": 0}
Path(job["result"]).write_text(json.dumps({"ok": True, "result": result}))
"""
PLACES = {
    "local": "executor: local",
    "docker": "executor: container\ncontainer: {program: docker, worker_image: workers:1}",
    "podman": "executor: container\ncontainer: {program: podman, worker_image: workers:1}",
    "enroot": "executor: container\ncontainer: {program: enroot, image: SQSH, worker_image: SQSH}",
    "slurm": "executor: slurm\nslurm: {poll_s: 0.03}",
    "pyxis": "executor: slurm\nslurm: {poll_s: 0.03, container_image: auto}",
}


@dataclass(frozen=True)
class Site:
    """Directories of one test."""

    root: Path

    @property
    def host(self) -> Path:
        """The user's files; a container sees of it what is mounted."""
        return self.root / "host"

    @property
    def state(self) -> Path:
        """What the stand-ins know."""
        return self.root / "state"

    @property
    def scratch(self) -> Path:
        return self.host / "scratch"

    @property
    def reads(self) -> Path:
        return self.host / "in"

    @property
    def out(self) -> Path:
        return self.host / "out"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def programs(self) -> tuple[Path, Path]:
        """Where TensorRT-LLM's programs are: on this machine's PATH, and in the images."""
        return self.root / "programs/bin", self.state / "image/bin"

    @property
    def environment(self) -> dict[str, str]:
        """What leads to the stand-ins."""
        return {
            "PATH": f"{self.root}/bin:{self.root}/programs/bin:/usr/bin:/bin",
            "STAND_IN_STATE": str(self.state),
            "STAND_IN_HOST": str(self.host),
        }

    def executor(self, place: str, more: str = "") -> JobExecutor:
        """The executor of a place, by way of a settings file."""
        file = self.root / "executor.yaml"
        text = PLACES.get(place, place).replace("SQSH", str(self.state / "triton.sqsh"))
        file.write_text(f"{text}\nenvironment: [PASSED]\n{more}")
        settings = read_settings(file)
        python = str(self.root / "programs/bin/python-of-workers")
        match settings.executor:
            case "local":
                return local_executor(python=python, tools=settings.tools)
            case "container":
                return executor.container_executor(settings)
            case "slurm":
                return executor.slurm_executor(settings, python=python)

    def tool(self, mode: str, **fields: object) -> ToolRun:
        """`trtllm-build MODE IN OUT`."""
        given = {
            "program": "trtllm-build",
            "arguments": (mode, str(self.reads), str(self.out)),
            "tensorrt_llm": "1.2.1",
            "reads": (self.reads,),
            "writes": (self.out,),
            "gpus": 0,
        }
        return ToolRun.model_validate(given | fields)

    def run(
        self,
        place: str,
        tool: ToolRun,
        *,
        more: str = "",
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> ToolResult:
        return self.executor(place, more).run_tool(
            tool, log=self.log, scratch=self.scratch, on_progress=on_progress
        )

    def calls(self, program: str) -> list[list[str]]:
        """How a stand-in was called so far."""
        try:
            lines = (self.state / "calls.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [words for name, *words in map(json.loads, lines) if name == program]


@pytest.fixture(scope="session")
def isolating() -> None:
    require_isolation()


def require_isolation() -> None:
    """Skips where a test may not make mount namespaces, as the stand-ins for containers do."""
    words = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no mount namespaces")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = make_site(tmp_path, builder=BUILDER)
    for directory in (made.scratch, made.reads, made.out):
        directory.mkdir(parents=True)
    (made.reads / "config.json").write_text("a model")
    (made.reads / "x.gguf").write_text("words")
    (made.host / "private").write_text("nobody's business")
    for programs in made.programs:
        script(programs / "python-of-workers", f"#!{sys.executable} -IS\n{WORKER}")
    (made.state / "image/bin/python3").symlink_to("python-of-workers")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PASSED", "passed on")
    monkeypatch.setenv("SECRET_TOKEN", "must stay here")
    monkeypatch.delenv("BWDEPLOY_EXECUTOR", raising=False)
    return made


def make_site(root: Path, *, builder: str) -> Site:
    """The stand-ins below `root`, and `builder` as trtllm-build outside and in the images."""
    made = Site(root)
    made.host.mkdir()
    (root / "bin").mkdir()
    for programs in made.programs:
        programs.mkdir(parents=True)
        script(programs / "trtllm-build", builder)
    (made.state / "pyxis").touch()
    (made.state / "triton.sqsh").write_bytes(b"hsqs")
    auto = "nvcr.io#nvidia/tritonserver:26.06-trtllm-python-py3"
    images = {IMAGE: [f"nvcr.io/nvidia/tritonserver@{DIGEST}"], "workers:1": [], auto: []}
    (made.state / "images.json").write_text(json.dumps(images))
    for name, module in STAND_INS.items():
        lines = (f"#!{sys.executable} -IS", "import sys", f"sys.path.insert(0, {str(PROJECT)!r})",
                 f"from tests.tools.executors.stand_in_{module} import main", "sys.exit(main())")  # fmt: skip
        script(root / "bin" / name, "\n".join(lines))
    return made


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def in_child(work: Callable[[], object]) -> int:
    """Start `work` in a process like the command line's; its id. It exits with the error's exit code."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        work()
        status = 0
    except InterruptedBuild as error:
        status = error.exit_code
    except BaseException:  # noqa: BLE001 - the end of a forked process
        traceback.print_exc()
    os._exit(status)


def status_of(child: int) -> int:
    """Wait for a child of `in_child`; its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(met: Callable[[], object], *, what: str, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come in {timeout_s:g} s")
        time.sleep(0.01)


def written_pid(file: Path) -> int:
    """The process id that a program writes to `file`, once it is there."""
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"), what=str(file))
    return int(file.read_text())


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it may end between the two
        return False
    return state not in {"Z", "X"}


def interrupt(child: int) -> int:
    """What Ctrl-C does; the exit status."""
    os.kill(child, signal.SIGINT)
    return status_of(child)
