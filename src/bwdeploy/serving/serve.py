"""Serve a built deployment: start the server, wait until the model answers, run until the user stops it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bwdeploy.errors import HostError, StoreError
from bwdeploy.places import cache_directory
from bwdeploy.serving.canary import wait_until_answering
from bwdeploy.serving.client import Endpoint
from bwdeploy.serving.launch_line import LAUNCH
from bwdeploy.serving.model_config import parse_pbtxt
from bwdeploy.tools.triton_container import REPOSITORY_INSIDE
from bwdeploy.tools.triton_ranks import ENGINE_MODEL
from bwdeploy.tools.triton_request import ServerKind, ServerRequest
from bwdeploy.tools.triton_server import start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.serving.deployment import Deployment
    from bwdeploy.tools.triton_server import RunningServer

_ENGINE_PATH: Final = "gpt_model_path"
_WATCH_S: Final = 0.5
_SERVER_ALLOWANCE_S: Final = 30.0
"""On top of the engine's own startup timeout, so that the engine's better reason is the one reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve; ports left out are chosen."""

    kind: ServerKind = "bundled"
    http_port: int | None = None
    grpc_port: int | None = None
    metrics_port: int | None = None
    image: str | None = None
    """Container image, in place of the one that carries the deployment's TensorRT-LLM."""
    container_program: Literal["docker", "podman"] | None = None
    gpus: Literal["all", "none"] = "all"
    """What a container sees."""
    log: Path | None = None
    """None: a new file in the cache directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """A model that has answered."""

    endpoint: Endpoint
    server: RunningServer
    started_s: float
    """From the start of the server to the first answer."""


@contextmanager
def serving(
    deployment: Deployment,
    options: ServeOptions,
    *,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> Iterator[LiveModel]:
    """The deployment, served and answering; the server is gone when the block ends.

    Raises:
        HostError: a port is taken, this machine lacks the server, or the server cannot load the engine.
        ToolError: the server or the model did not start.
        StoreError: the log or the server's environment cannot be written.
    """
    _require_one_machine(deployment)
    _require_engine_in_sight(deployment, options.kind)
    started = time.perf_counter()
    timeout_s = float(deployment.serve.startup_timeout_s)
    request = _server_request(deployment, options)
    on_progress(f"starting Triton with {deployment.model}; log: {request.log}")
    with start_server(request, on_progress=on_progress) as server:
        endpoint = Endpoint(
            http=server.http_url,
            grpc=server.grpc_url,
            metrics=server.metrics_url,
            model=deployment.model,
            vocabulary=deployment.vocabulary,
        )
        wait_until_answering(server, endpoint, timeout_s=timeout_s, on_progress=on_progress)
        yield LiveModel(endpoint=endpoint, server=server, started_s=time.perf_counter() - started)


def serve(
    deployment: Deployment,
    options: ServeOptions,
    *,
    on_ready: Callable[[LiveModel], None],
    on_progress: Callable[[str], None] = lambda _text: None,
) -> None:
    """Serve until Ctrl-C; `on_ready` is called once the model answers.

    Raises:
        HostError, ToolError, StoreError: as `serving`, and ToolError when the server ends by itself.
    """
    try:
        with serving(deployment, options, on_progress=on_progress) as live:
            on_ready(live)
            while True:
                live.server.check_alive()
                time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        on_progress("stopped")


def _require_one_machine(deployment: Deployment) -> None:
    if deployment.engine is not None and deployment.nodes > 1:
        raise HostError(
            f"The engine's {deployment.engine.world_size} ranks are spread over {deployment.nodes} machines, "
            "and bwdeploy starts a server on this one only.",
            hint=f"Run {deployment.repository / LAUNCH}, which starts a task for each rank with srun.",
        )


def _require_engine_in_sight(deployment: Deployment, kind: ServerKind) -> None:
    """A tritonserver of this machine looks for the engine under the path that config.pbtxt names."""
    file = deployment.repository / ENGINE_MODEL / "config.pbtxt"
    if deployment.engine is None or kind != "system" or not file.is_file():
        return
    config = parse_pbtxt(file.read_text(encoding="utf-8"))
    place = config.parameters[_ENGINE_PATH].string_value if _ENGINE_PATH in config.parameters else ""
    if place and not Path(place).is_dir():
        raise HostError(
            f"{ENGINE_MODEL} opens its engine at {place}, and this machine has no such directory.",
            hint=f"Link it (ln -s {deployment.repository} {REPOSITORY_INSIDE}), use --server container, "
            "or build with serve.engine_parameters.engine_dir.",
        )


def _server_request(deployment: Deployment, options: ServeOptions) -> ServerRequest:
    return ServerRequest(
        repository=deployment.repository,
        log=options.log or _new_log(deployment.name),
        kind=options.kind,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        metrics_port=options.metrics_port,
        startup_timeout_s=deployment.serve.startup_timeout_s + _SERVER_ALLOWANCE_S,
        tensorrt_llm=deployment.tensorrt_llm,
        engine=deployment.engine,
        image=options.image,
        container_program=options.container_program,
        gpus=options.gpus,
    )


def _new_log(name: str) -> Path:
    folder = cache_directory() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The log directory {folder} cannot be made: {error.strerror or error}.",
            hint="Set BWDEPLOY_CACHE to a directory you may write.",
        ) from error
    return folder / f"triton-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
