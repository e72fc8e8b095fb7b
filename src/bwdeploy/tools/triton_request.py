"""What can be asked of a Triton server's launch, and the command lines that follow from it; pure.

The defaults are the safe ones: no model control, loopback addresses, administration routes closed by a
secret that is made for one launch and then forgotten.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - part of the public dataclass
from typing import TYPE_CHECKING, Final, Literal

from bwdeploy.tools.triton_ranks import EngineLaunch, ranks_command

if TYPE_CHECKING:
    from bwdeploy.tools.triton_environment import TritonEnvironment

ServerKind = Literal["bundled", "system", "container"]

SHARED_MEMORY_PREFIX: Final = "triton_python_backend_shm_region_bw"
"""Must begin with the server's own literal: newer servers guard exactly that name against clients."""

STACK_BYTES: Final = 256 * 1024 * 1024
"""With the usual 8 MB one JSON body of 4 MB ends a 2.51 server by SIGSEGV."""

LOOPBACK: Final = "127.0.0.1"

_CLOSED_APIS: Final = "shared-memory,model-repository,logging,trace"
"""`statistics` and `model-config` stay open: load tools such as perf_analyzer read both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The three ports of a server."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """A launch. Ports left out are chosen."""

    repository: Path
    log: Path
    kind: ServerKind = "bundled"
    http_port: int | None = None
    grpc_port: int | None = None
    metrics_port: int | None = None
    startup_timeout_s: float = 900.0
    """For loading all models; the server answers nothing before."""
    exit_timeout_s: int = 5
    """For requests in flight when it is told to stop."""
    tensorrt_llm: str = "1.2.1"
    """Decides the image of a container."""
    engine: EngineLaunch | None = None
    """Of a repository that holds an engine."""
    image: str | None = None
    """In place of that image."""
    container_program: Literal["docker", "podman"] | None = None
    """None: whichever is installed."""
    gpus: Literal["all", "none"] = "all"
    """What a container sees."""
    cache: Path | None = None
    """Where the bundled server's environment lies; None: the user's cache directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchIdentity:
    """What makes one launch different from every other."""

    token: str = field(default_factory=lambda: secrets.token_hex(8))
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def shared_memory_prefix(self) -> str:
        """Unique prefix of its shared memory regions."""
        return f"{SHARED_MEMORY_PREFIX}{self.token}_"


def server_arguments(
    *, repository: str, ports: Ports, address: str, identity: LaunchIdentity, exit_timeout_s: int
) -> tuple[str, ...]:
    """The options that every kind of server gets."""
    return (
        f"--model-repository={repository}",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--disable-auto-complete-config",
        f"--http-address={address}",
        f"--http-port={ports.http}",
        f"--grpc-address={address}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={address}",
        f"--metrics-port={ports.metrics}",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
        f"--http-restricted-api={_CLOSED_APIS}:X-BW-Admin={identity.secret}",
        f"--grpc-restricted-protocol={_CLOSED_APIS}:bw-admin={identity.secret}",
        f"--backend-config=python,shm-region-prefix-name={identity.shared_memory_prefix}",
        f"--exit-timeout-secs={exit_timeout_s}",
    )


def bundled_command(
    environment: TritonEnvironment,
    request: ServerRequest,
    *,
    ports: Ports,
    identity: LaunchIdentity,
) -> tuple[str, ...]:
    """The command line of the server inside nvidia-pytriton."""
    return (
        str(environment.server),
        *server_arguments(
            repository=str(request.repository),
            ports=ports,
            address=LOOPBACK,
            identity=identity,
            exit_timeout_s=request.exit_timeout_s,
        ),
        f"--backend-directory={environment.backends}",
        f"--cache-directory={environment.cache_directory}",
        "--allow-gpu-metrics=false",
    )


def system_command(
    executable: Path, request: ServerRequest, *, ports: Ports, identity: LaunchIdentity
) -> tuple[str, ...]:
    """The command line of a tritonserver that is installed on this machine, for every rank of an engine."""
    return ranks_command(
        str(executable),
        server_arguments(
            repository=str(request.repository),
            ports=ports,
            address=LOOPBACK,
            identity=identity,
            exit_timeout_s=request.exit_timeout_s,
        ),
        repository=str(request.repository),
        launch=request.engine,
        shared_memory_prefix=identity.shared_memory_prefix,
    )
