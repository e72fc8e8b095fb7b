"""The executor `slurm` against a stand-in cluster: the queue, its endings, and jobs that outlive us."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from bwdeploy.errors import HostError, InterruptedBuild, ToolError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.store import RUNNING_JOB
from bwdeploy.tools.executors import cancel_noted
from bwdeploy.tools.executors.launch import identity_of
from bwdeploy.tools.executors.slurm_client import Job
from bwdeploy.tools.executors.slurm_endings import ENDINGS
from bwdeploy.tools.executors.slurm_note import RunningJob, read_note, write_note
from bwdeploy.tools.executors.slurm_script import exported_names
from tests.tools.executors.conftest import Site, in_child, is_alive, script, status_of, wait_for, written_pid


def slurm(more: str = "") -> str:
    return f"executor: slurm\nslurm: {{poll_s: 0.02{more}}}"


def killed_while_running(site: Site, place: str = "slurm") -> int:
    """Start a slow job and kill the command line; the process id of the job's program."""
    child = in_child(lambda: site.run(place, site.tool("slow")))
    program = written_pid(site.out / "pid")
    os.kill(child, signal.SIGKILL)
    status_of(child)
    return program


def job_number(site: Site) -> str:
    note = read_note(site.scratch)
    assert note is not None
    assert note.job is not None
    return note.job.id


def state_of(site: Site, number: str) -> str:
    return (site.state / "slurm" / number / "state").read_text()


def test_a_queue_that_rejects_the_job_is_quoted(site: Site) -> None:
    with pytest.raises(HostError) as error:
        site.run(slurm(", partition: nowhere"), site.tool("build"))
    assert "invalid partition specified: nowhere" in error.value.message
    assert "Invalid partition name specified" in error.value.message
    assert not (site.scratch / RUNNING_JOB).exists()


def test_settings_become_options_of_sbatch(site: Site) -> None:
    more = ", partition: gpu, account: team, time_limit: '1-02:00:00'"
    more += ", options: {qos: high, mem: 64G, exclusive: true}"
    site.run(slurm(more), site.tool("build", gpus=4))
    (words,) = site.calls("sbatch")
    assert {
        "--partition=gpu", "--account=team", "--time=1-02:00:00", "--qos=high", "--mem=64G", "--exclusive",
        "--gpus-per-node=4", "--nodes=1", "--ntasks=1", "--no-requeue", "--parsable",
    } <= set(words)  # fmt: skip


def test_one_task_for_each_rank_forms_one_mpi_world(site: Site) -> None:
    site.run(slurm(", mpi: pmi2"), site.tool("rank", nodes=2, tasks=4, gpus=2))
    assert sorted(path.name for path in site.out.iterdir()) == ["rank0", "rank1", "rank2", "rank3"]
    assert (site.out / "rank3").read_text() == "3 of 4\n"
    (words,) = site.calls("srun")
    assert {"--mpi=pmi2", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--export=ALL"} <= set(words)


def test_every_word_reaches_the_program_as_it_was(site: Site) -> None:
    odd = ("none of the modes", "$(touch owned)", "`id`", "a'b\"c", "two\nlines", "*", "", "\\", "--flag=x y")
    site.run("slurm", site.tool("build", arguments=(odd[0], "in", str(site.out), *odd[1:])))
    assert (site.out / "words").read_text() == "\n".join((odd[0], "in", str(site.out), *odd[1:], ""))
    assert not (site.scratch / "owned").exists()


def test_a_place_in_the_queue_is_shown(site: Site) -> None:
    (site.state / "hold").touch()
    seen: list[str] = []

    def look(progress: Progress) -> None:
        seen.append(progress.phase)
        if "PENDING" in progress.phase:
            (site.state / "hold").unlink(missing_ok=True)

    (site.reads / "go").touch()
    site.run("slurm", site.tool("slow"), on_progress=look)
    assert "Slurm job 1000: PENDING (Resources)" in seen


@pytest.mark.parametrize(
    "state",
    [
        "OUT_OF_MEMORY",
        "TIMEOUT",
        *(pytest.param(state, marks=pytest.mark.slow) for state in ("NODE_FAIL", "PREEMPTED", "CANCELLED")),
    ],
)
def test_each_way_that_slurm_ends_a_job_has_its_own_hint(site: Site, state: str) -> None:
    (site.state / "end-as").write_text(state)
    with pytest.raises(ToolError, match=rf"trtllm-build .*\(Slurm job 1000: {state}\)") as error:
        site.run("slurm", site.tool("fail" if state == "OUT_OF_MEMORY" else "sleep"))
    assert error.value.hint == ENDINGS[state].hint
    assert not (site.scratch / RUNNING_JOB).exists()


def test_without_accounting_the_exit_status_still_comes(site: Site) -> None:
    (site.state / "no-accounting").touch()
    with pytest.raises(ToolError, match="ended with status 7"):
        site.run("slurm", site.tool("fail"))


@pytest.mark.slow
def test_a_job_that_vanishes_without_accounting_says_so(site: Site) -> None:
    (site.state / "no-accounting").touch()
    (site.state / "end-as").write_text("NODE_FAIL")
    with pytest.raises(ToolError, match="left the queue without an exit status") as error:
        site.run("slurm", site.tool("sleep"))
    assert "scontrol show job 1000" in error.value.hint


def test_a_restart_of_the_controller_is_borne(site: Site) -> None:
    child = in_child(lambda: site.run("slurm", site.tool("slow")))
    written_pid(site.out / "pid")
    (site.state / "controller-down").touch()
    looks = len(site.calls("squeue"))
    wait_for(lambda: len(site.calls("squeue")) > looks + 2, what="looks at the silent queue")
    (site.state / "controller-down").unlink()
    (site.reads / "go").touch()
    assert status_of(child) == 0


def test_a_queue_that_stays_silent_keeps_the_job_and_its_note(site: Site) -> None:
    (site.state / "controller-down").touch()
    with pytest.raises(HostError, match=r"has not answered for 0\.05 s; its job 1000 may go on") as error:
        site.run(slurm(", patience_s: 0.05"), site.tool("slow"))
    assert "scancel 1000" in error.value.hint
    assert job_number(site) == "1000"
    (site.state / "controller-down").unlink()
    (site.reads / "go").touch()
    site.run("slurm", site.tool("slow"))
    assert len(site.calls("sbatch")) == 1


def test_a_job_that_ended_while_nobody_looked_is_not_run_again(site: Site) -> None:
    killed_while_running(site)
    number = job_number(site)
    (site.reads / "go").touch()
    wait_for(lambda: state_of(site, number) == "COMPLETED", what="the end of the job")
    site.run("slurm", site.tool("slow"))
    assert len(site.calls("sbatch")) == 1
    assert "started" in site.log.read_text()


def test_a_job_that_failed_while_nobody_looked_is_told(site: Site) -> None:
    killed_while_running(site)
    number = job_number(site)
    (site.reads / "go").mkdir()
    (site.out / "engine").mkdir()  # what the job then cannot write
    wait_for(lambda: state_of(site, number) == "FAILED", what="the end of the job")
    with pytest.raises(ToolError, match="trtllm-build ended with status"):
        site.run("slurm", site.tool("slow"))
    assert not (site.scratch / RUNNING_JOB).exists()


def test_a_job_that_died_while_nobody_looked_is_submitted_anew(site: Site) -> None:
    program = killed_while_running(site)
    os.killpg(os.getpgid(program), signal.SIGKILL)
    wait_for(lambda: state_of(site, job_number(site)) == "FAILED", what="the end of the job")
    (site.reads / "go").touch()
    site.run("slurm", site.tool("slow"))
    assert len(site.calls("sbatch")) == 2


def test_a_note_of_a_job_that_nobody_knows_is_no_obstacle(site: Site) -> None:
    tool = site.tool("build")
    identity = identity_of(tool.model_dump_json())
    write_note(site.scratch, RunningJob(identity, "bwdeploy-gone", Job("99")))
    site.run("slurm", tool)
    assert site.calls("squeue")[0][-2] == "--jobs=99"
    assert len(site.calls("sbatch")) == 1


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("more", [pytest.param("", marks=pytest.mark.slow), ", options: {clusters: east}"])
def test_a_job_whose_number_was_never_written_down_is_found(site: Site, more: str, *, ended: bool) -> None:
    killed_while_running(site, slurm(more))
    number = job_number(site)
    note = read_note(site.scratch)
    assert note is not None
    write_note(site.scratch, note._replace(job=None))
    if ended:
        (site.reads / "go").touch()
        wait_for(lambda: state_of(site, number) == "COMPLETED", what="the end of the job")
    child = in_child(lambda: site.run(slurm(more), site.tool("slow")))
    wait_for(lambda: ended or len(site.calls("squeue")) > 3, what="looks at the queue")
    (site.reads / "go").touch()
    assert status_of(child) == 0
    assert len(site.calls("sbatch")) == 1
    assert not (site.scratch / RUNNING_JOB).exists()


def test_the_running_job_of_another_request_is_cancelled(site: Site) -> None:
    program = killed_while_running(site)
    site.run("slurm", site.tool("build"))
    wait_for(lambda: not is_alive(program), what="the end of the old job")
    assert len(site.calls("sbatch")) == 2


def test_an_earlier_request_of_the_same_stage_is_not_run_again(site: Site) -> None:
    """A stage runs two programs; the command line dies while the second runs."""
    site.run("slurm", site.tool("build"))
    killed_while_running(site)
    (site.reads / "go").touch()
    site.run("slurm", site.tool("build"))
    site.run("slurm", site.tool("slow"))
    assert len(site.calls("sbatch")) == 2


def test_ctrl_c_in_the_queue_cancels_what_has_not_begun(site: Site) -> None:
    (site.state / "hold").touch()

    def build() -> None:
        with pytest.raises(InterruptedBuild, match=r"^interrupted; Slurm job 1000 was cancelled$") as error:
            site.run("slurm", site.tool("build"))
        raise error.value

    child = in_child(build)
    wait_for(lambda: site.calls("squeue"), what="a look at the queue")
    os.kill(child, signal.SIGINT)
    assert status_of(child) == 130
    assert state_of(site, "1000") == "CANCELLED"


@pytest.mark.parametrize("more", ["", ", options: {clusters: east}"])
def test_ctrl_c_before_the_number_is_known_cancels_by_name(site: Site, more: str) -> None:
    for name in ("hold", "slow-answer"):
        (site.state / name).touch()
    child = in_child(lambda: site.run(slurm(more), site.tool("build")))
    wait_for((site.state / "slurm/1000/state").exists, what="the job")
    os.kill(child, signal.SIGINT)
    assert status_of(child) == 130
    assert state_of(site, "1000") == "CANCELLED"
    assert not (site.scratch / RUNNING_JOB).exists()


def test_a_cancellation_that_slurm_did_not_take_keeps_the_note(site: Site) -> None:
    killed_while_running(site)
    script(site.root / "bin/scancel", "#!/bin/sh\nexit 1\n")
    (site.state / "controller-down").touch()
    assert cancel_noted(site.scratch) == "Its Slurm job may run on; end it with: scancel 1000"
    assert (site.scratch / RUNNING_JOB).exists()
    (site.state / "controller-down").unlink()
    (site.reads / "go").touch()
    wait_for(lambda: state_of(site, "1000") == "COMPLETED", what="the end of the job")
    assert cancel_noted(site.scratch) == ""
    assert not (site.scratch / RUNNING_JOB).exists()


def test_without_slurm_it_names_the_login_node(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{site.root}/programs/bin:/usr/bin:/bin")
    with pytest.raises(HostError, match="no sbatch on PATH") as error:
        site.run("slurm", site.tool("build"))
    assert "login node" in error.value.hint


def test_a_program_that_only_the_nodes_have_is_left_to_them(site: Site) -> None:
    with pytest.raises(ToolError) as error:
        site.run("slurm", site.tool("build"), more="tools: {trtllm-build: /opt/trt/bin/trtllm-build}")
    assert "execve(): /opt/trt/bin/trtllm-build: No such file" in error.value.last_lines[-1]


def test_directories_of_this_machine_are_no_variables_of_a_container() -> None:
    present = dict.fromkeys(("PATH", "TMPDIR", "PYTHONPATH", "TOKEN", "OTHER"), "x")
    assert exported_names(present, ("TOKEN",), contained=True) == ("PATH", "TOKEN")
    assert set(exported_names(present, (), contained=False)) == {"PATH", "TMPDIR", "PYTHONPATH"}


def test_cores_for_each_task_are_said_to_srun_too(site: Site) -> None:
    result = site.run(slurm(", options: {cpus-per-task: 8}"), site.tool("build"))
    assert "--cpus-per-task=8" in result.command
    assert "--cpus-per-task=8" in site.calls("sbatch")[0]


@pytest.mark.usefixtures("isolating")
def test_pyxis_gets_image_mounts_and_directory(site: Site) -> None:
    result = site.run("pyxis", site.tool("build"))
    words = set(result.command)
    assert "--container-image=nvcr.io#nvidia/tritonserver:26.06-trtllm-python-py3" in words
    mounts = f"{site.reads}:{site.reads}:ro,{site.out}:{site.out},{site.scratch}:{site.scratch}"
    assert f"--container-mounts={mounts}" in words
    assert {f"--container-workdir={site.scratch}", "--no-container-mount-home"} <= words


def test_a_cluster_without_pyxis_refuses_its_options(site: Site) -> None:
    (site.state / "pyxis").unlink()
    with pytest.raises(ToolError) as error:
        site.run("pyxis", site.tool("build"))
    assert any("unrecognized option '--container-image" in line for line in error.value.last_lines)


def test_paths_that_pyxis_cannot_mount_are_refused_before_submission(site: Site) -> None:
    odd = site.host / "a b"
    odd.mkdir()
    with pytest.raises(HostError, match="cannot be mounted by enroot"):
        site.run("pyxis", site.tool("build", reads=(odd,)))
    assert not site.calls("sbatch")


def test_the_script_can_be_read_back_word_by_word(site: Site) -> None:
    site.run("slurm", site.tool("build", environment={"OWN": "a b"}))
    (script,) = site.scratch.glob("slurm-*/job.sh")
    first, export, srun, *_ = script.read_text().splitlines()
    assert first == "#!/bin/bash"
    assert export == "export OWN='a b'"
    assert shlex.split(srun)[-4:] == ["trtllm-build", "build", str(site.reads), str(site.out)]


def test_a_broken_note_is_ignored(site: Site) -> None:
    for text in ("", "{}", "[]", json.dumps({"job": 1})):
        (site.scratch / RUNNING_JOB).write_text(text)
        assert read_note(Path(site.scratch)) is None
