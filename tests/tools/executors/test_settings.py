"""The executor file: what it may say, and every problem at its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.tools.executors import open_executor
from bwdeploy.tools.executors.executor import JobExecutor
from bwdeploy.tools.executors.sbatch_options import option_words
from bwdeploy.tools.executors.settings import ContainerSettings, ExecutorSettings, SlurmSettings
from bwdeploy.tools.executors.settings_file import read_settings
from bwdeploy.tools.executors.slurm import SlurmLauncher

PROJECT = Path(__file__).parents[3]
WHOLE = """
executor: slurm
environment: [HF_TOKEN]
tools: {trtllm-build: /opt/trt/bin/trtllm-build}
container: {program: podman, image: 'mine:1', worker_image: 'workers:1', gpus: [0, GPU-1f], pull: never,
            network: bridge, user: image}
slurm: {partition: gpu, account: team, time_limit: '4:00:00', gpus_per_node: 8, container_image: auto,
        mpi: pmi2, options: {qos: high, exclusive: true, nice: 5}, poll_s: 2, patience_s: 60}
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(text)
    return file


def test_a_file_that_says_everything(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, WHOLE))
    assert settings == ExecutorSettings(
        executor="slurm",
        environment=("HF_TOKEN",),
        tools={"trtllm-build": "/opt/trt/bin/trtllm-build"},
        container=ContainerSettings(
            program="podman", image="mine:1", worker_image="workers:1", gpus=(0, "GPU-1f"), pull="never",
            network="bridge", user="image",
        ),
        slurm=SlurmSettings(
            partition="gpu", account="team", time_limit="4:00:00", gpus_per_node=8, container_image="auto",
            mpi="pmi2", options={"qos": "high", "exclusive": True, "nice": 5}, poll_s=2, patience_s=60,
        ),
    )  # fmt: skip


MISTAKES = {
    "executer: slurm": "1:1: executer: an executor file has no key 'executer'. Did you mean executor.",
    "slurm: {partion: gpu}": "Did you mean partition.",
    "container: {volume: 1}": "Valid here: program, image, worker_image, gpus, pull, network, user.",
    "slurm:\n  time_limit: 60": '2:15: slurm.time_limit: the number 60 does not fit: input should be a valid'
    ' string. Put it in quotes: "60".',
    "slurm: {partition: '-p x'}": "expected one word that does not begin with '-'",
    'slurm: {account: "a\\nb"}': "expected one word",
    "environment: ['A=B']": "environment[0]: the text 'A=B' does not fit: expected the name of an",
    "tools: {trtllm-build: bin/x}": "tools.trtllm-build: the text 'bin/x' does not fit: expected an absolute",
    "container: {program: lxc}": "container.program: the text 'lxc' does not fit: input should be 'docker'",
    "container: {gpus: []}": "container.gpus: a list does not fit",
    "slurm: {poll_s: 0}": "slurm.poll_s: the number 0 does not fit: input should be greater than or equal",
    "slurm: {options: {partition: x}}": "partition has a key of its own. Set slurm.partition.",
    "slurm: {options: {wrap: ls}}": "bwdeploy sets --wrap itself",
    "slurm: {options: {qoss: x}}": "sbatch has no option --qoss that fits here. Did you mean qos.",
    "slurm: {options: {qos: true}}": "--qos needs a value",
    "slurm: {options: {requeue: true}}": "bwdeploy sets --requeue itself",
    "slurm: {options: {contiguous: 1}}": "--contiguous takes no value. Write contiguous: true.",
    "[1]": "a list does not fit",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES.items())
def test_each_mistake_is_told_at_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RecipeError) as error:
        read_settings(written(tmp_path, text))
    assert expected in error.value.message


def test_the_documented_file_can_be_read(tmp_path: Path) -> None:
    page = (PROJECT / "docs/executors.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    settings = read_settings(written(tmp_path, example))
    for section in (settings, settings.container, settings.slurm):
        assert section.model_fields_set == set(type(section).model_fields)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        read_settings(written(tmp_path, "executor: cloud\nslurm: {poll: 1}\ncontainer: {pull: 1}"))
    assert [finding.line for finding in error.value.findings] == [1, 2, 3]


def test_options_become_words() -> None:
    options: dict[str, str | int | bool] = {"qos": "a b", "nice": 5, "exclusive": True, "contiguous": False}
    assert option_words(options) == ("--qos=a b", "--nice=5", "--exclusive")


def test_the_file_is_named_by_the_caller_or_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BWDEPLOY_EXECUTOR", raising=False)
    assert kinds(open_executor(None, file=None)) == ("local", "local")
    file = written(tmp_path, WHOLE)
    assert kinds(open_executor(None, file=file)) == ("slurm", "slurm")
    monkeypatch.setenv("BWDEPLOY_EXECUTOR", str(file))
    assert kinds(open_executor(None, file=None)) == ("slurm", "slurm")
    assert kinds(open_executor("container", file=None)) == ("container", "container")
    assert kinds(open_executor("local", file=None)) == ("local", "local")


def test_workers_stay_outside_a_container_without_an_image_for_them(tmp_path: Path) -> None:
    chosen = open_executor("container", file=written(tmp_path, "container: {program: docker}"))
    assert kinds(chosen) == ("local", "container")


def test_a_misspelt_executor_gets_the_right_word() -> None:
    with pytest.raises(RecipeError, match="there is no executor 'slrum'") as error:
        open_executor("slrum", file=None)
    assert "Did you mean slurm" in error.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no such file"):
        open_executor("slurm", file=tmp_path / "nowhere.yaml")


def kinds(executor: object) -> tuple[str, str]:
    """Where worker jobs and where programs run."""
    assert isinstance(executor, JobExecutor)
    launcher = executor.programs
    if isinstance(launcher, SlurmLauncher):
        assert launcher.passed == ("HF_TOKEN",)
    return executor.workers.launcher.kind, launcher.kind
