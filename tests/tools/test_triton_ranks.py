"""Engines of several ranks: one server process for each under mpirun, or one server that starts workers."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools.triton_container import container_command
from bwdeploy.tools.triton_ranks import EngineLaunch
from bwdeploy.tools.triton_request import LaunchIdentity, Ports, ServerRequest, system_command
from bwdeploy.tools.triton_server import start_server
from tests.tools.triton_on_path import put_programs

if TYPE_CHECKING:
    from tests.tools.conftest import RequestFor

TWO = EngineLaunch(version="1.2.1", world_size=2)
PORTS = Ports(http=1111, grpc=2222, metrics=3333)
GUARDED = "triton_python_backend_shm_region_"
RANK = """
import os
import time

class TritonPythonModel:
    def initialize(self, args):
        rank, size = (int(os.environ[f"OMPI_COMM_WORLD_{name}"]) for name in ("RANK", "SIZE"))
        place = args["model_repository"]
        if os.path.exists(f"{place}/fail{rank}"):
            raise ValueError("the engine was built for another world size")
        with open(f"{place}/rank{rank}of{size}", "w") as note:
            note.write(str(os.getpid()))
        while not all(os.path.exists(f"{place}/rank{other}of{size}") for other in range(size)):
            time.sleep(0.02)  # as the real ranks, none is ready before all are there

    def execute(self, requests):
        return []
"""


def contexts_of(command: tuple[str, ...]) -> list[list[str]]:
    text = "\0".join(command[command.index("-n") :])
    return [context.split("\0") for context in text.split("\0:\0")]


def container(request: ServerRequest) -> tuple[str, ...]:
    return container_command(
        Path("/usr/bin/docker"), request, name="bwdeploy-x", ports=PORTS, identity=LaunchIdentity()
    )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts a tritonserver (the bundled one) and the stand-in for mpirun on PATH; returns their folder."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    put_programs(binaries)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    return binaries


@pytest.mark.usefixtures("machine")
def test_a_rank_that_fails_ends_the_server_with_its_reason(request_for: RequestFor) -> None:
    request = dataclasses.replace(request_for(RANK, name="tensorrt_llm"), kind="system", engine=TWO)
    (request.repository / "tensorrt_llm" / "fail1").touch()
    with pytest.raises(ToolError, match="built for another world size"):
        start_server(request)


def test_only_rank_0_has_ports_and_every_rank_its_own_guarded_memory(request_for: RequestFor) -> None:
    request = dataclasses.replace(request_for(), engine=dataclasses.replace(TWO, world_size=4))
    command = system_command(Path("tritonserver"), request, ports=PORTS, identity=LaunchIdentity())
    assert command[:2] == ("mpirun", "--allow-run-as-root")
    leader, *followers = contexts_of(command)
    assert (leader[:3], len(followers)) == (["-n", "1", "tritonserver"], 3)
    assert {"--http-port=1111", "--model-control-mode=none"} <= set(leader)
    for follower in followers:
        assert not [word for word in follower if "-port=" in word or "-address=" in word]
        assert {"--allow-http=false", "--allow-grpc=false", "--allow-metrics=false"} <= set(follower)
        assert {"--load-model=tensorrt_llm", "--disable-auto-complete-config"} <= set(follower)
        assert {f"--model-repository={request.repository}", "--exit-timeout-secs=1"} <= set(follower)
    regions = [
        word.partition("shm-region-prefix-name=")[2]
        for context in (leader, *followers)
        for word in context
        if "shm-region" in word
    ]
    assert len(set(regions)) == 4
    assert all(region.startswith(GUARDED) for region in regions)


def test_one_rank_needs_no_mpirun(request_for: RequestFor) -> None:
    request = request_for()
    engine = dataclasses.replace(request, engine=dataclasses.replace(TWO, world_size=1))
    identity = LaunchIdentity()
    assert system_command(Path("t"), engine, ports=PORTS, identity=identity) == system_command(
        Path("t"), request, ports=PORTS, identity=identity
    )


def test_a_container_starts_the_ranks_inside(request_for: RequestFor) -> None:
    command = container(dataclasses.replace(request_for(), engine=TWO))
    inside = command[command.index("mpirun") :]
    leader, follower = contexts_of(inside)
    assert "--http-port=8000" in leader
    assert "--model-repository=/models" in leader
    assert "--model-repository=/models" in follower


def test_an_orchestrator_is_one_server_that_starts_workers(request_for: RequestFor) -> None:
    launch = dataclasses.replace(TWO, mode="orchestrator")
    command = container(dataclasses.replace(request_for(), engine=launch))
    assert "mpirun" not in command
    assert command.count("tritonserver") == 1
    assert {"--env=TRTLLM_ORCHESTRATOR=1", "--env=TRTLLM_ORCHESTRATOR_SPAWN_PROCESSES=1"} <= set(command)
    assert {"--cuda-memory-pool-byte-size=0:0", "--cuda-memory-pool-byte-size=1:0"} <= set(command)


def test_the_bundled_server_cannot_load_an_engine(request_for: RequestFor) -> None:
    with pytest.raises(HostError, match="no TensorRT-LLM backend") as caught:
        start_server(dataclasses.replace(request_for(), engine=TWO))
    assert "--server container" in caught.value.hint


def test_ranks_without_mpirun_are_refused(machine: Path, request_for: RequestFor) -> None:
    (machine / "mpirun").unlink()
    request = dataclasses.replace(request_for(), kind="system", engine=TWO)
    with pytest.raises(HostError, match="no mpirun on PATH, which starts the engine's 2 ranks"):
        start_server(request)


@pytest.mark.parametrize(
    ("image", "version", "hint"),
    [
        (None, "1.2.0", r"Use nvcr\.io/nvidia/tritonserver:26\.03-trtllm-python-py3\."),
        ("nvcr.io/nvidia/tritonserver:25.08-trtllm-python-py3", "1.2.1", "tritonserver:26.06-"),
        ("nvcr.io/nvidia/tritonserver:26.06-trtllm-python-py3", "0.18.1", "engine.tensorrt_llm: 1.2.1"),
    ],
)
def test_an_image_with_another_version_than_the_engine_is_refused(
    machine: Path, request_for: RequestFor, image: str | None, version: str, hint: str
) -> None:
    (machine / "docker").write_text("#!/bin/sh\nexit 1\n")
    (machine / "docker").chmod(0o755)
    engine = EngineLaunch(version=version, world_size=1)
    request = dataclasses.replace(request_for(), kind="container", engine=engine, image=image)
    with pytest.raises(HostError, match="no other version loads it, not even another patch") as caught:
        start_server(request)
    assert not request.log.exists()
    assert re.search(hint, caught.value.hint)


def test_an_image_that_nobody_knows_is_remarked(machine: Path, request_for: RequestFor) -> None:
    (machine / "docker").write_text("#!/bin/sh\nexit 125\n")
    (machine / "docker").chmod(0o755)
    told: list[str] = []
    request = dataclasses.replace(request_for(), kind="container", engine=TWO, image="registry/mine:1")
    with pytest.raises(ToolError, match="exit status 125"):
        start_server(request, on_progress=told.append)
    assert told == ["registry/mine:1 is no image that is known; it must carry TensorRT-LLM 1.2.1 exactly"]


def test_every_server_gets_the_variables_of_the_recipe(tmp_path: Path) -> None:
    engine = dataclasses.replace(TWO, variables=(("TRTLLM_ENABLE_PDL", "1"),))
    request = ServerRequest(repository=tmp_path, log=tmp_path / "log", engine=engine)
    command = system_command(Path("tritonserver"), request, ports=PORTS, identity=LaunchIdentity())
    places = [index for index, word in enumerate(command) if word == "tritonserver"]
    assert [command[index - 2 : index] for index in places] == [("env", "TRTLLM_ENABLE_PDL=1")] * 2


def test_a_repository_that_ld_preload_cannot_name_is_refused(tmp_path: Path) -> None:
    engine = EngineLaunch(version="1.2.1", world_size=1, plugins=True)
    request = ServerRequest(repository=tmp_path / "a b", log=tmp_path / "log", engine=engine)
    with pytest.raises(HostError, match="LD_PRELOAD, which parts paths at blanks and colons") as caught:
        system_command(Path("tritonserver"), request, ports=PORTS, identity=LaunchIdentity())
    assert "Move the output" in caught.value.hint
