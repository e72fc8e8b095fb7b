"""What every executor tells before anything runs: the same refusals as later, and nothing is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from bwdeploy.errors import HostError
from bwdeploy.pipeline.jobs import ProgramNeed
from bwdeploy.tools.nvcc import NVCC
from tests.tools.executors.conftest import DIGEST, IMAGE, PLACES, Site

OLDER = "nvcr.io/nvidia/tritonserver:26.03-trtllm-python-py3"
CARRIES = r"26\.03-trtllm-python-py3 carries TensorRT-LLM 1\.2\.0; the recipe asks for 1\.2\.1"
REMOTE_IMAGE = "executor: slurm\nslurm: {container_image: '%s'}"


class Refusal(NamedTuple):
    """A need that a site cannot meet."""

    place: str
    message: str
    without: tuple[str, ...] = ()
    """Programs that this site lacks."""
    state: str = ""
    """A file that makes a stand-in behave."""
    need: Mapping[str, object] = {}


def container(program: str, more: str) -> str:
    return f"executor: container\ncontainer: {{program: {program}, {more}}}"


REFUSALS = {
    "program": Refusal("local", "There is no program trtllm-build on PATH", without=("trtllm-build",)),
    "mpirun": Refusal("local", "There is no program mpirun on PATH", need={"tasks": 2}),
    "nodes": Refusal("docker", "trtllm-build needs 2 nodes", need={"nodes": 2, "tasks": 2}),
    "docker": Refusal("docker", "There is no docker on PATH", without=("docker",)),
    "any-container": Refusal(
        "executor: container", "There is no docker or podman on PATH", without=("docker", "podman")
    ),
    "daemon": Refusal("docker", "docker does not answer: Cannot connect", state="daemon-down"),
    "older-image": Refusal(container("podman", f"image: '{OLDER}'"), CARRIES),
    "no-image": Refusal("docker", r"TensorRT-LLM 1\.2\.9", need={"tensorrt_llm": "1.2.9"}),
    "image-not-here": Refusal(
        container("docker", "pull: never, image: 'mine:1'"), "The image mine:1 is not on this machine"
    ),
    "gpus": Refusal(container("docker", "gpus: [0]"), "The job needs 2 GPUs", need={"gpus": 2}),
    "enroot": Refusal("enroot", "There is no enroot on PATH", without=("enroot",)),
    "enroot-image": Refusal(container("enroot", "image: /no/such.sqsh"), r"/no/such\.sqsh is no file"),
    "enroot-network": Refusal(container("enroot", "network: none"), "enroot cannot cut a job off"),
    "sbatch": Refusal("slurm", "There is no sbatch on PATH", without=("sbatch",)),
    "program-of-cluster": Refusal("slurm", "There is no program trtllm-build", without=("trtllm-build",)),
    "pyxis-image": Refusal(REMOTE_IMAGE % OLDER, CARRIES),
}


def lose(site: Site, *programs: str) -> None:
    for directory in (site.root / "bin", site.programs[0]):
        for program in programs:
            Path(directory, program).unlink(missing_ok=True)


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_what_a_run_would_refuse_is_told_before(site: Site, refusal: Refusal) -> None:
    lose(site, *refusal.without)
    if refusal.state:
        (site.state / refusal.state).touch()
    tool = site.tool("build", **refusal.need)
    with pytest.raises(HostError, match=refusal.message) as told:
        site.executor(refusal.place).require(tool)
    assert not list(site.scratch.iterdir())
    with pytest.raises(HostError) as refused:
        site.run(refusal.place, tool)
    assert (told.value.message, told.value.hint) == (refused.value.message, refused.value.hint)


@pytest.mark.parametrize("program", ["squeue", "scancel"])
def test_a_cluster_is_asked_for_all_of_its_commands(site: Site, program: str) -> None:
    lose(site, program)
    with pytest.raises(HostError, match=f"There is no {program} on PATH"):
        site.executor("slurm").require(site.tool("build"))
    assert not site.calls("sbatch")


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_has_everything_starts_nothing(site: Site, place: str) -> None:
    site.executor(place).require(site.tool("build"))
    started = [words for program in ("docker", "podman") for words in site.calls(program)]
    assert [words[:2] for words in started] == [["image", "inspect"]] * (place in {"docker", "podman"})
    assert not [call for program in ("enroot", "sbatch", "squeue") for call in site.calls(program)]


def test_an_image_that_will_be_fetched_is_left_for_later(site: Site) -> None:
    (site.state / "images.json").write_text("{}")
    (site.state / "registry.json").write_text(json.dumps({IMAGE: [f"x@{DIGEST}"]}))
    site.executor("docker").require(site.tool("build"))
    assert [words[0] for words in site.calls("docker")] == ["image"]


def test_a_path_of_the_executor_file_is_what_is_looked_for(site: Site) -> None:
    elsewhere = site.root / "elsewhere-build"
    (site.programs[0] / "trtllm-build").rename(elsewhere)
    named = site.executor("local", f"tools: {{trtllm-build: {elsewhere}}}")
    named.require(site.tool("build"))
    elsewhere.unlink()
    with pytest.raises(HostError, match=r"no program .*/elsewhere-build on PATH"):
        named.require(site.tool("build"))


COMPILER = ProgramNeed(program=NVCC, tensorrt_llm="", gpus=0)


@pytest.mark.parametrize("place", ["local", "executor: container"])
def test_a_missing_compiler_is_told_before_where_kernels_are_compiled_here(
    site: Site, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(site.root / "no-cuda"))
    with pytest.raises(HostError, match=r"CUDA_HOME is .*no-cuda"):
        site.executor(place).require(COMPILER)


@pytest.mark.parametrize("place", ["docker", "slurm"])
def test_a_worker_elsewhere_looks_for_the_compiler_itself(
    site: Site, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(site.root / "no-cuda"))
    site.executor(place).require(COMPILER)
