from __future__ import annotations

import csv
import dataclasses
import http.client
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools.triton_container import container_command, image_for
from bwdeploy.tools.triton_environment import bundled_environment
from bwdeploy.tools.triton_request import LaunchIdentity, Ports, ServerRequest
from bwdeploy.tools.triton_server import start_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tools.conftest import RequestFor

PORTS = Ports(http=1111, grpc=2222, metrics=3333)


def command_for(request: ServerRequest, program: str = "docker") -> tuple[str, ...]:
    return container_command(
        Path("/usr/bin") / program, request, name="bwdeploy-x", ports=PORTS, identity=LaunchIdentity()
    )


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """Puts the stand-in for docker first on PATH; returns what it was called with so far."""
    environment = bundled_environment()
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "docker"
    program.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("stand_in_docker.py").read_text())
    program.chmod(0o755)
    server = {
        "command": [
            str(environment.server),
            f"--backend-directory={environment.backends}",
            f"--cache-directory={environment.cache_directory}",
            "--allow-gpu-metrics=false",
        ],
        "env": {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, environment.library_path)),
            "PATH": f"{environment.binaries}:{os.environ['PATH']}",
        },
    }
    record = tmp_path / "docker.jsonl"
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_SERVER", json.dumps(server))
    monkeypatch.setenv("STAND_IN_RECORD", str(record))
    return lambda: [json.loads(line) for line in record.read_text().splitlines()]


def test_a_container_answers_and_is_removed(
    request_for: RequestFor, stand_in: Callable[[], list[list[str]]], gone: Callable[[int], bool]
) -> None:
    request = dataclasses.replace(request_for(), kind="container", container_program="docker")
    with start_server(request) as server:
        connection = http.client.HTTPConnection(server.http_url, timeout=10)
        connection.request("POST", "/v2/models/echo/generate", json.dumps({"text_input": "inside"}))
        assert json.loads(connection.getresponse().read())["text_output"] == "inside"
        connection.close()
    assert gone(server.pid)
    run, removal = stand_in()
    name = next(word.partition("=")[2] for word in run if word.startswith("--name="))
    assert removal == ["rm", "--force", name]


def test_a_program_that_refuses_gives_its_reason(
    request_for: RequestFor, stand_in: Callable[[], list[list[str]]]
) -> None:
    request = dataclasses.replace(request_for(), kind="container", image="not an image")
    with pytest.raises(ToolError, match="exit status 125: docker: invalid reference format"):
        start_server(request)
    assert stand_in()


def test_only_the_repository_is_mounted_and_only_loopback_is_published(request_for: RequestFor) -> None:
    request = request_for()
    command = command_for(request)
    mounts = [word for word in command if word.startswith(("--mount", "--volume", "-v"))]
    assert mounts == [f"--mount=type=bind,source={request.repository},target=/models,readonly"]
    published = [word for word in command if word.startswith("--publish")]
    assert published == [
        "--publish=127.0.0.1:1111:8000",
        "--publish=127.0.0.1:2222:8001",
        "--publish=127.0.0.1:3333:8002",
    ]
    assert {"--gpus=all", "--shm-size=2g", "--cap-drop=ALL", "--rm"} <= set(command)
    assert not {"sh", "bash", "-c", "--privileged"} & set(command)
    assert "--model-repository=/models" in command


def test_a_strange_path_cannot_add_mount_options() -> None:
    path = Path('/data/a,readonly=false,"b"')
    command = command_for(ServerRequest(repository=path, log=Path("log")))
    (value,) = (word.partition("=")[2] for word in command if word.startswith("--mount="))
    assert next(csv.reader([value])) == ["type=bind", f"source={path}", "target=/models", "readonly"]


def test_podman_names_gpus_in_its_own_way(request_for: RequestFor) -> None:
    request = request_for()
    assert "--device=nvidia.com/gpu=all" in command_for(request, "podman")
    without = command_for(dataclasses.replace(request, gpus="none"), "podman")
    assert not [word for word in without if "gpu" in word and word.startswith("--device")]


def test_the_image_follows_from_the_version() -> None:
    assert image_for("1.2.0") == "nvcr.io/nvidia/tritonserver:26.03-trtllm-python-py3"


def test_a_version_without_an_image_names_those_that_have_one() -> None:
    with pytest.raises(HostError, match=r"No known Triton image carries TensorRT-LLM 1\.3\.0") as caught:
        image_for("1.3.0")
    assert "1.2.1" in caught.value.hint


def test_without_docker_or_podman_it_says_so(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="no docker or podman on PATH"):
        start_server(dataclasses.replace(request_for(), kind="container"))
