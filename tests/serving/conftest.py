from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.recipe.schema import Engine, Serve
from bwdeploy.serving.client import Endpoint
from bwdeploy.serving.repository import RepositoryInputs, write_repository
from bwdeploy.serving.vocabulary import ensemble_vocabulary
from bwdeploy.tools.triton_request import ServerRequest
from bwdeploy.tools.triton_server import RunningServer, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

ENSEMBLE_CONFIG = """\
name: "ensemble"
backend: "python"
max_batch_size: 4
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "exclude_input_in_output" data_type: TYPE_BOOL dims: [ 1 ] optional: true },
  { name: "temperature" data_type: TYPE_FP32 dims: [ 1 ] optional: true },
  { name: "top_k" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "top_p" data_type: TYPE_FP32 dims: [ 1 ] optional: true },
  { name: "seed" data_type: TYPE_UINT64 dims: [ 1 ] optional: true },
  { name: "stop_words" data_type: TYPE_STRING dims: [ -1 ] optional: true }
]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
model_transaction_policy { decoupled: true }
"""

KERNEL = "add_rmsnorm_quant_fp8"
TEXT = "The quick brown fox jumps over the lazy dög. " * 20


def add_echo(repository: Path, *, delay_ms: float, kernel_ops: tuple[str, ...] = (), **serve: Any) -> str:
    """Write an echo model and return its name; it counts kernels without ever running one."""
    section = Serve(**serve)
    inputs = RepositoryInputs(serve=section, engine=Engine(), checkpoint=None, llm_args=None, runtime="echo")
    engine_json = write_repository(repository, inputs) / "1" / "engine.json"
    config = json.loads(engine_json.read_text())
    kernels = {"kernels": "kernels", "kernel_ops": kernel_ops} if kernel_ops else {}
    engine_json.write_text(json.dumps({**config, **kernels, "echo_token_delay_ms": delay_ms}))
    return section.model_name


def add_ensemble(repository: Path) -> None:
    """Write the stand-in for an engine's ensemble."""
    version = repository / "ensemble" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(ENSEMBLE_CONFIG)
    (version / "model.py").write_text(Path(__file__).with_name("stand_in_ensemble.py").read_text())


def endpoint_of(server: RunningServer, model: str) -> Endpoint:
    return Endpoint(http=server.http_url, grpc=server.grpc_url, metrics=server.metrics_url, model=model)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with the models that tests only ask, never harm."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "repository").mkdir()
    add_echo(folder / "repository", delay_ms=5, model_name="echo")
    add_echo(folder / "repository", delay_ms=5, model_name="cumulative", cumulative_text=True)
    add_echo(folder / "repository", delay_ms=0, model_name="whole", streaming=False)
    add_echo(folder / "repository", delay_ms=0, model_name="small", max_running=1, max_queued=0)
    add_echo(folder / "repository", delay_ms=0, model_name="idle_kernels", kernel_ops=(KERNEL,))
    add_ensemble(folder / "repository")
    request = ServerRequest(
        repository=folder / "repository", log=folder / "triton.log", startup_timeout_s=60, exit_timeout_s=1
    )
    with start_server(request) as server:
        yield server


@pytest.fixture
def echo(shared_server: RunningServer) -> Endpoint:
    """The model `echo` of the shared server: 5 ms a token."""
    return endpoint_of(shared_server, "echo")


@pytest.fixture
def ensemble(shared_server: RunningServer) -> Endpoint:
    """The stand-in for an engine's ensemble, on the shared server."""
    return dataclasses.replace(
        endpoint_of(shared_server, "ensemble"), vocabulary=ensemble_vocabulary("1.2.1")
    )


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of the test's own, with the model `echo` at 20 ms a token."""
    (tmp_path / "repository").mkdir()
    add_echo(tmp_path / "repository", delay_ms=20, model_name="echo")
    request = ServerRequest(
        repository=tmp_path / "repository",
        log=tmp_path / "triton.log",
        startup_timeout_s=60,
        exit_timeout_s=1,
    )
    with start_server(request) as server:
        yield server
