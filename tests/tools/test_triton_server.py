from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools.triton_server import RunningServer, start_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tools.conftest import RequestFor

    SharedMemory = Callable[[int], Callable[[], list[Path]]]

ORPHAN = """
import subprocess

class TritonPythonModel:
    def initialize(self, args):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        open(args["model_repository"] + "/orphan.pid", "w").write(str(child.pid))

    def execute(self, requests):
        return []
"""

START_AND_WAIT = """
import dataclasses, sys, time
from pathlib import Path
from bwdeploy.tools.triton_request import ServerRequest
from bwdeploy.tools.triton_server import start_server

request = ServerRequest(repository=Path(sys.argv[1]), log=Path(sys.argv[2]), exit_timeout_s=1)
server = start_server(request)
print(server.pid, flush=True)
time.sleep(600)
"""


def call(server: RunningServer, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.http_url, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def listening_addresses() -> dict[int, set[str]]:
    """Port → local addresses in the kernel's notation, IPv4 and IPv6."""
    found: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A":
                found.setdefault(int(port, 16), set()).add(address)
    return found


def test_it_answers_on_loopback_only_and_leaves_nothing(
    request_for: RequestFor,
    gone: Callable[[int], bool],
    shared_memory: SharedMemory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nonsense")  # must not reach the stub
    monkeypatch.setenv("PYTHONHOME", "/nonsense")
    request = request_for()
    with start_server(request) as server:
        regions = shared_memory(server.pid)
        assert regions()
        status, answer = call(server, "POST", "/v2/models/echo/generate", {"text_input": "grün"})
        assert (status, json.loads(answer)["text_output"]) == (200, "grün")
        addresses = listening_addresses()
        for port in dataclasses.astuple(server.ports):
            assert addresses[port] <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert gone(server.pid)
    assert not regions()
    assert not list(request.repository.rglob("__pycache__"))
    with pytest.raises(ToolError, match="ended with exit status"):
        server.check_alive()


def test_administration_is_closed_and_large_bodies_do_not_kill_it(request_for: RequestFor) -> None:
    with start_server(request_for()) as server:
        for path in (
            "/v2/systemsharedmemory/status",
            "/v2/repository/index",
            "/v2/logging",
            "/v2/trace/setting",
        ):
            status, _ = call(server, "POST" if path.endswith("index") else "GET", path)
            assert status == 403, path
        status, _ = call(server, "POST", "/v2/models/echo/generate", {"text_input": "x" * 6_000_000})
        assert status == 200
        server.check_alive()


def test_a_model_that_does_not_load_is_named_with_its_reason(request_for: RequestFor) -> None:
    request = request_for("import a_module_that_is_not_there")
    with pytest.raises(ToolError, match=r"echo: .*No module named 'a_module_that_is_not_there'") as caught:
        start_server(request)
    assert caught.value.log == request.log
    assert any("model.py(1)" in line for line in caught.value.last_lines)


def test_the_engine_python_that_the_user_named_reaches_the_model(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BWDEPLOY_ENGINE_PYTHON", "/opt/engine/bin/python")
    told = "import os; raise RuntimeError('engine: ' + os.environ['BWDEPLOY_ENGINE_PYTHON'])"
    with pytest.raises(ToolError, match="engine: /opt/engine/bin/python"):
        start_server(request_for(told))


@pytest.mark.parametrize("purpose", ["http_port", "grpc_port", "metrics_port"])
def test_a_port_that_was_asked_for_and_is_taken_is_named(request_for: RequestFor, purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        request = dataclasses.replace(request_for(), **{purpose: port})
        with pytest.raises(HostError, match=f"port {port} on 127.0.0.1 cannot be used"):
            start_server(request)


def test_a_port_that_was_asked_for_is_used(request_for: RequestFor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start_server(dataclasses.replace(request_for(), http_port=port)) as server:
        assert server.ports.http == port


def test_a_chosen_port_taken_while_the_model_loads_is_replaced(request_for: RequestFor) -> None:
    """The model itself takes the HTTP port while it loads, once."""
    thief = """
import os, socket, subprocess, sys
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        marker = args["model_repository"] + "/stolen"
        if os.path.exists(marker):
            return
        command = open("/proc/%d/cmdline" % os.getppid()).read().split(chr(0))
        port = next(word for word in command if word.startswith("--http-port=")).partition("=")[2]
        self.thief = socket.create_server(("127.0.0.1", int(port)))
        open(marker, "w").write(port)

    def execute(self, requests):
        return []
"""
    request = request_for(thief)
    told: list[str] = []
    with start_server(request, on_progress=told.append) as server:
        stolen = (request.repository / "echo" / "stolen").read_text()
        assert server.ports.http != int(stolen)
    assert any("taken meanwhile" in text for text in told)


def test_a_model_that_loads_for_too_long_is_given_up(
    request_for: RequestFor, gone: Callable[[int], bool]
) -> None:
    sleeper = """
import os, time

class TritonPythonModel:
    def initialize(self, args):
        open(args["model_repository"] + "/stub.pid", "w").write(str(os.getpid()))
        time.sleep(600)
"""
    request = dataclasses.replace(request_for(sleeper), startup_timeout_s=2.0)
    with pytest.raises(ToolError, match="did not listen within 2 s"):
        start_server(request)
    assert gone(int((request.repository / "echo" / "stub.pid").read_text()))


def test_a_killed_server_is_noticed_with_its_exit_status(
    request_for: RequestFor, gone: Callable[[int], bool]
) -> None:
    with start_server(request_for()) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert gone(server.pid)
        time.sleep(0.2)  # the guard sees it a moment later
        with pytest.raises(ToolError, match="exit status 137"):
            server.check_alive()


def test_orphans_in_a_session_of_their_own_are_killed_too(
    request_for: RequestFor, gone: Callable[[int], bool]
) -> None:
    request = request_for(ORPHAN)
    with start_server(request) as server:
        orphan = int((request.repository / "echo" / "orphan.pid").read_text())
        os.killpg(server.pid, signal.SIGKILL)
    assert gone(orphan)


@pytest.mark.parametrize("victim", ["bwdeploy", "guard"])
def test_kill_9_leaves_no_server(
    request_for: RequestFor, gone: Callable[[int], bool], shared_memory: SharedMemory, victim: str
) -> None:
    request = request_for()
    command = [sys.executable, "-c", START_AND_WAIT, str(request.repository), str(request.log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cli:
        assert cli.stdout is not None
        server = int(cli.stdout.readline())
        guard = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
        regions = shared_memory(server)
        os.kill(cli.pid if victim == "bwdeploy" else guard, signal.SIGKILL)
        assert gone(server)
        assert gone(guard)
        cli.kill()
    if victim == "guard":  # then nobody is left to remove them
        for region in regions():
            region.unlink()
    assert not regions()


def test_a_missing_executable_is_a_host_error(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="no tritonserver on PATH"):
        start_server(dataclasses.replace(request_for(), kind="system"))


def test_an_executable_that_cannot_run_is_a_tool_error(
    request_for: RequestFor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tritonserver").write_text("#!/no/such/interpreter\n")
    (tmp_path / "tritonserver").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="tritonserver could not be started"):
        start_server(dataclasses.replace(request_for("", name="other"), kind="system"))
