"""Run a Triton server: the bundled one, one on PATH, or a container. Typed request in, running handle out.

The server lives in its own process group under a guard, listens on the loopback address, and is gone, with
all its children and shared memory, when the handle is closed or this process ends. It says when the server
listens, not whether a model answers: see `serving.canary` for that.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools.free_ports import choose_ports
from bwdeploy.tools.guarded_process import GuardedCommand, GuardedProcess
from bwdeploy.tools.triton_container import check_image, container_command, image_for, removal_command
from bwdeploy.tools.triton_environment import bundled_environment
from bwdeploy.tools.triton_log import failure_reasons, port_was_taken
from bwdeploy.tools.triton_request import (
    LOOPBACK,
    STACK_BYTES,
    LaunchIdentity,
    Ports,
    ServerKind,
    ServerRequest,
    bundled_command,
    system_command,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from bwdeploy.tools.triton_environment import TritonEnvironment

_ENGINE_PYTHON: Final = "BWDEPLOY_ENGINE_PYTHON"
"""The user's choice of the engine's Python; without it the engine runs in ours."""
_ATTEMPTS: Final = 3
_POLL_S: Final = 0.05
_TELL_EVERY_S: Final = 10.0
_STOP_ALLOWANCE_S: Final = 5.0
"""The server looks at its exit once a second and ends its stubs after that."""


class RunningServer:
    """A server that runs; a context manager that stops it."""

    def __init__(self, process: GuardedProcess, *, ports: Ports, log: Path) -> None:
        self._process = process
        self.ports = ports
        self.log = log

    @property
    def pid(self) -> int:
        """Process id of the server (of the container program, for a container); also its process group."""
        return self._process.pid

    @property
    def http_url(self) -> str:
        """host:port of the HTTP front end."""
        return f"{LOOPBACK}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        """host:port of the gRPC front end."""
        return f"{LOOPBACK}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """host:port of the Prometheus metrics."""
        return f"{LOOPBACK}:{self.ports.metrics}"

    def check_alive(self) -> None:
        """Return when the server still runs.

        Raises:
            ToolError: it ended; the message carries the reason from its log.
        """
        code = self._process.poll()
        if code is not None:
            raise _early_exit(code, log=self.log)

    def stop(self) -> None:
        """End it and everything it started; safe to call twice."""
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_server(
    request: ServerRequest, *, on_progress: Callable[[str], None] = lambda _text: None
) -> RunningServer:
    """Start a server and wait until it listens, which it does once all models are loaded.

    Triton opens its metrics port last, a moment after the one that says it is live; both are waited for.

    Raises:
        HostError: a port that was asked for is taken, or this machine lacks the server.
        ToolError: it ended early (with the reasons from its log) or took too long.
        StoreError: the bundled server's environment could not be written.
    """
    launcher = _LAUNCHERS[request.kind](request, on_progress)
    for attempt in range(1, _ATTEMPTS + 1):
        ports = choose_ports(http=request.http_port, grpc=request.grpc_port, metrics=request.metrics_port)
        request.log.write_bytes(b"")
        process = GuardedProcess(launcher(ports, LaunchIdentity()))
        server = RunningServer(process, ports=ports, log=request.log)
        try:
            _wait_until_listening(server, timeout_s=request.startup_timeout_s, on_progress=on_progress)
        except ToolError:
            server.stop()
            if attempt == _ATTEMPTS or not port_was_taken(_read(request.log)):
                raise
            on_progress("a chosen port was taken meanwhile; starting again with others")
        except BaseException:
            server.stop()
            raise
        else:
            return server
    raise AssertionError("unreachable: the last attempt returns or raises")


def _wait_until_listening(
    server: RunningServer, *, timeout_s: float, on_progress: Callable[[str], None]
) -> None:
    started = time.monotonic()
    told_s = 0.0
    while not (_answers(server.ports.http) and _accepts(server.ports.metrics)):
        server.check_alive()
        waited_s = time.monotonic() - started
        if waited_s > timeout_s:
            raise ToolError(
                f"The Triton server did not listen within {timeout_s:g} s.",
                hint="Raise serve.startup_timeout_s, or read the log for what it is waiting for.",
                log=server.log,
                last_lines=failure_reasons(_read(server.log)),
            )
        if waited_s - told_s > _TELL_EVERY_S:
            told_s = waited_s
            on_progress(f"models are loading, {waited_s:.0f} s so far")
        time.sleep(_POLL_S)
    server.check_alive()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=2.0).close()
    except OSError:
        return False
    return True


def _early_exit(code: int, *, log: Path) -> ToolError:
    text = _read(log)
    reasons = failure_reasons(text)
    summary = reasons[0] if reasons else "it left no message"
    return ToolError(
        f"The Triton server ended with exit status {code}: {summary}",
        hint="The log names the model and the line.",
        log=log,
        last_lines=reasons,
    )


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BundledLauncher:
    request: ServerRequest
    environment: TritonEnvironment

    def __call__(self, ports: Ports, identity: LaunchIdentity) -> GuardedCommand:
        env = _clean_environment()
        libraries = [str(folder) for folder in self.environment.library_path]
        env["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *_words(env.get("LD_LIBRARY_PATH"))])
        env["PATH"] = os.pathsep.join([str(self.environment.binaries), *_words(env.get("PATH"))])
        env.setdefault(_ENGINE_PYTHON, sys.executable)
        command = bundled_command(self.environment, self.request, ports=ports, identity=identity)
        return _guarded(self.request, command, env=env, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SystemLauncher:
    request: ServerRequest
    executable: Path

    def __call__(self, ports: Ports, identity: LaunchIdentity) -> GuardedCommand:
        engine = self.request.engine.environment if self.request.engine else {}
        env = {_ENGINE_PYTHON: sys.executable, **_clean_environment(), **engine}
        command = system_command(self.executable, self.request, ports=ports, identity=identity)
        return _guarded(self.request, command, env=env, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContainerLauncher:
    request: ServerRequest
    program: Path

    def __call__(self, ports: Ports, identity: LaunchIdentity) -> GuardedCommand:
        name = f"bwdeploy-{identity.token}"
        command = container_command(self.program, self.request, name=name, ports=ports, identity=identity)
        cleanup = removal_command(self.program, name=name)
        return _guarded(self.request, command, env=dict(os.environ), identity=identity, cleanup=cleanup)


def _prepare_bundled(request: ServerRequest, on_progress: Callable[[str], None]) -> _BundledLauncher:
    if request.engine is not None:
        raise HostError(
            "The bundled Triton server has no TensorRT-LLM backend, so it cannot load an engine.",
            hint="Serve with --server container, or --server system where tritonserver has the backend.",
        )
    environment = bundled_environment(cache=request.cache, on_progress=on_progress)
    return _BundledLauncher(request=request, environment=environment)


def _prepare_system(request: ServerRequest, on_progress: Callable[[str], None]) -> _SystemLauncher:
    found = shutil.which("tritonserver")
    if found is None:
        hint = "Use --server container." if request.engine else "Use the bundled server or a container."
        raise HostError("There is no tritonserver on PATH.", hint=hint)
    if request.engine is not None:
        on_progress(f"this machine's tritonserver must carry TensorRT-LLM {request.engine.version} exactly")
        if request.engine.needs_mpirun and shutil.which("mpirun") is None:
            raise HostError(
                f"There is no mpirun on PATH, which starts the engine's {request.engine.world_size} ranks.",
                hint="Install Open MPI, set serve.launch_mode: orchestrator, or use --server container.",
            )
    return _SystemLauncher(request=request, executable=Path(found))


def _prepare_container(request: ServerRequest, on_progress: Callable[[str], None]) -> _ContainerLauncher:
    wanted = (request.container_program,) if request.container_program else ("docker", "podman")
    found = next((path for program in wanted if (path := shutil.which(program))), None)
    if found is None:
        hint = "Install one." if request.engine else "Install one, or use the bundled server."
        raise HostError(f"There is no {' or '.join(wanted)} on PATH.", hint=hint)
    if request.engine is not None:
        remark = check_image(request.image or image_for(request.tensorrt_llm), request.engine)
        if remark:
            on_progress(remark)
    return _ContainerLauncher(request=request, program=Path(found))


_LAUNCHERS: Final[
    Mapping[
        ServerKind,
        Callable[[ServerRequest, Callable[[str], None]], Callable[[Ports, LaunchIdentity], GuardedCommand]],
    ]
] = {"bundled": _prepare_bundled, "system": _prepare_system, "container": _prepare_container}


def _guarded(
    request: ServerRequest,
    command: tuple[str, ...],
    *,
    env: dict[str, str],
    identity: LaunchIdentity,
    cleanup: tuple[str, ...] = (),
) -> GuardedCommand:
    return GuardedCommand(
        command=command,
        env=env,
        cwd=str(request.repository),
        log=str(request.log),
        grace_s=request.exit_timeout_s + _STOP_ALLOWANCE_S,
        stack_bytes=STACK_BYTES,
        cleanup=cleanup,
        shared_memory_prefix=identity.shared_memory_prefix,
    )


def _clean_environment() -> dict[str, str]:
    """This process's environment without what would lead the stub or the engine to the wrong Python."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }


def _words(value: str | None) -> list[str]:
    return [word for word in (value or "").split(os.pathsep) if word]
