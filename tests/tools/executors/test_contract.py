"""Every executor keeps the same promises: results, failures, interruption, and death of the command line.

Docker, podman, enroot and Slurm are stand-ins here; see docs/executors.md.
"""

from __future__ import annotations

import os
import signal

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import ConvertGguf, ConvertGgufResult, Progress
from tests.tools.executors.conftest import (
    DIGEST,
    IMAGE,
    PLACES,
    Site,
    in_child,
    interrupt,
    is_alive,
    status_of,
    wait_for,
    written_pid,
)

RUN_AND_RM = ("docker", "podman")
CONTAINERS = ("docker", "podman", "enroot", "pyxis")
KINDS = {"docker": "container", "podman": "container", "enroot": "container", "pyxis": "slurm"}


SAME_LAUNCHER = {"podman": "docker", "pyxis": "slurm"}
"""Beyond their command line they share a launcher; those tests of theirs run with -m slow only."""
LAUNCHERS = [pytest.param(name, marks=[pytest.mark.slow] * (name in SAME_LAUNCHER)) for name in PLACES]
KILLED = [pytest.param(name, marks=[pytest.mark.slow] * (name not in {"local", "docker"})) for name in PLACES]
each_launcher = pytest.mark.parametrize("place", LAUNCHERS, indirect=True)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name in CONTAINERS:
        request.getfixturevalue("isolating")
    return name


def was_removed(site: Site, place: str) -> bool:
    """Whether the container was removed by its name; the real programs keep it when their client dies."""
    (run,) = [words for words in site.calls(place) if words[0] == "run"]
    name = next(word.removeprefix("--name=") for word in run if word.startswith("--name="))
    return site.calls(place)[-1] == ["rm", "--force", name]


def variables(site: Site) -> dict[str, str]:
    lines = (site.out / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def test_a_program_gets_its_files_its_directory_and_its_variables_and_no_others(
    site: Site, place: str
) -> None:
    result = site.run(place, site.tool("build", environment={"OWN": "it's $HOME `x`"}))
    assert (site.out / "engine").read_text() == "a model"
    assert (site.out / "where").read_text().strip() == str(site.scratch)
    assert "[TRT-LLM] built" in site.log.read_text()
    assert variables(site)["OWN"] == "it's $HOME `x`"
    assert variables(site)["PASSED"] == "passed on"
    assert ("SECRET_TOKEN" in variables(site)) == (place == "local")
    assert result.executor == KINDS.get(place, place)
    assert (
        result.command[-4:] == ("trtllm-build", "build", str(site.reads), str(site.out)) or place == "local"
    )
    if place in {"docker", "podman"}:
        assert (result.image, result.image_digest) == (IMAGE, DIGEST)


@each_launcher
def test_a_failing_program_tells_status_log_and_last_lines(site: Site, place: str) -> None:
    with pytest.raises(ToolError, match="trtllm-build ended with status 7") as error:
        site.run(place, site.tool("fail"))
    assert error.value.last_lines[:2] == ("first line", "[TRT] the reason") or place == "enroot"
    assert "[TRT] the reason" in error.value.last_lines
    assert error.value.log == site.log
    assert error.value.hint


@pytest.mark.parametrize("place", KILLED, indirect=True)
def test_a_killed_program_names_the_signal(site: Site, place: str) -> None:
    with pytest.raises(ToolError, match=r"signal 9 \(SIGKILL\)") as error:
        site.run(place, site.tool("die"))
    assert "out-of-memory" in error.value.hint


@each_launcher
def test_the_same_worker_job_gives_the_same_result(site: Site, place: str) -> None:
    seen: list[Progress] = []
    request = ConvertGguf(gguf=site.reads / "x.gguf", out=site.out)
    result = site.executor(place).run(request, log=site.log, scratch=site.scratch, on_progress=seen.append)
    assert result == ConvertGgufResult(architecture="words", parameters=1, seconds=0, peak_memory_bytes=0)
    assert (site.out / "made").read_text() == "words"
    assert Progress(phase="convert", done=1, total=2) in seen
    assert "to the log" in site.log.read_text()


@each_launcher
def test_ctrl_c_ends_all_that_it_started(site: Site, place: str) -> None:
    child = in_child(lambda: site.run(place, site.tool("sleep")))
    program, grandchild = written_pid(site.out / "pid"), written_pid(site.out / "child")
    assert interrupt(child) == 130
    wait_for(lambda: not is_alive(program) and not is_alive(grandchild), what="the end of both processes")
    assert not list(site.scratch.glob("running-job*"))
    assert place not in RUN_AND_RM or was_removed(site, place)
    assert not list(site.state.glob("containers/*")) + list(site.state.glob("enroot/*"))


@each_launcher
def test_a_killed_command_line_leaves_nothing_or_a_job_that_is_taken_up(site: Site, place: str) -> None:
    child = in_child(lambda: site.run(place, site.tool("slow")))
    program = written_pid(site.out / "pid")
    wait_for(lambda: site.log.read_text() == "started\n" or place == "enroot", what="the first line")
    os.kill(child, signal.SIGKILL)
    assert status_of(child) == -signal.SIGKILL
    if place not in {"slurm", "pyxis"}:
        wait_for(lambda: not is_alive(program), what="the end of the program")
        wait_for(lambda: place not in RUN_AND_RM or was_removed(site, place), what="the container's removal")
        return
    assert is_alive(program)
    (site.reads / "go").touch()
    site.run(place, site.tool("slow"))
    assert (site.out / "engine").read_text() == "again\n"
    assert site.log.read_text() == "started\n"
    assert len(site.calls("sbatch")) == 1
    assert not (site.scratch / "running-job.json").exists()


@pytest.mark.parametrize("place", [one for one in LAUNCHERS if one.values[0] in CONTAINERS], indirect=True)
def test_a_container_sees_what_the_job_names_and_writes_where_it_may(site: Site, place: str) -> None:
    with pytest.raises(ToolError, match="trtllm-build ended"):
        site.run(place, site.tool("trespass"))
    assert (site.reads / "config.json").read_text() == "a model"
    log = site.log.read_text()
    assert "Read-only file system" in log
    assert "No such file" in log


@pytest.mark.parametrize("place", ["local", "slurm"], indirect=True)
def test_a_second_run_in_the_same_place_starts_afresh(site: Site, place: str) -> None:
    site.run(place, site.tool("build"))
    (site.reads / "config.json").write_text("another model")
    site.run(place, site.tool("build"))
    assert (site.out / "engine").read_text() == "another model"
    assert site.log.read_text().count("built") == 1
