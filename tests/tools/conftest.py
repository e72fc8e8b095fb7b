from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from bwdeploy.tools.triton_request import SHARED_MEMORY_PREFIX, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Callable

_CONFIG = """
name: "{name}"
backend: "python"
input {{ name: "text_input" data_type: TYPE_STRING dims: -1 }}
output {{ name: "text_output" data_type: TYPE_STRING dims: -1 }}
instance_group {{ count: 1 kind: KIND_CPU }}
model_transaction_policy {{ decoupled: true }}
"""

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()
            response = pb_utils.InferenceResponse([pb_utils.Tensor("text_output", text)])
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            request.get_response_sender().send(response, flags=final)
"""


class RequestFor(Protocol):
    def __call__(self, source: str = ECHO, *, name: str = "echo") -> ServerRequest: ...


@pytest.fixture
def request_for(tmp_path: Path) -> RequestFor:
    """A launch request for a repository with one Python model of the given source."""

    def make(source: str = ECHO, *, name: str = "echo") -> ServerRequest:
        version = tmp_path / "repository" / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(source)
        (version.parent / "config.pbtxt").write_text(_CONFIG.format(name=name))
        return ServerRequest(
            repository=tmp_path / "repository",
            log=tmp_path / "triton.log",
            startup_timeout_s=30,
            exit_timeout_s=1,
        )

    return make


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process ends within some seconds (a zombie counts as ended)."""

    def wait(pid: int) -> bool:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                return True
            if state == "Z":
                return True
            time.sleep(0.05)
        os.kill(pid, 9)
        return False

    return wait


@pytest.fixture
def shared_memory() -> Callable[[int], Callable[[], list[Path]]]:
    """Of a running server: a function that lists its shared memory, also later."""

    def of(pid: int) -> Callable[[], list[Path]]:
        option = "shm-region-prefix-name="
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        prefix = next(word.partition(option)[2] for word in command if option in word)
        assert prefix.startswith(SHARED_MEMORY_PREFIX)
        return lambda: list(Path("/dev/shm").glob(f"{prefix}*"))  # noqa: S108 - where the server puts them

    return of
