"""The command line of a Triton server whose model is an engine of one or several ranks; pure.

An engine's world size is fixed when it is built, and the server must be started with exactly that many
processes: one too many or too few ends in a hang or an MPI abort (https://github.com/NVIDIA/TensorRT-LLM/issues/2813).
The two ways follow upstream's triton_backend/scripts/launch_triton_server.py of TensorRT-LLM 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bwdeploy.errors import HostError
from bwdeploy_kernels.tensorrt_plugins import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE_MODEL: Final = "tensorrt_llm"
"""The model that loads the engine; the others of the repository run beside rank 0 only."""

KERNELS: Final = f"{ENGINE_MODEL}/1/kernels"
"""Of a repository around an engine: the kernel pack whose TensorRT plugins the engine calls."""

_MPIRUN: Final = (
    "mpirun",
    "--allow-run-as-root",  # the server's image runs as root
    "--bind-to",
    "none",  # with two processes Open MPI would pin each whole server to one core
)
_OF_EVERY_RANK: Final = ("--model-repository=", "--exit-timeout-secs=")
_FOLLOWER: Final = (
    "--model-control-mode=explicit",
    f"--load-model={ENGINE_MODEL}",
    "--disable-auto-complete-config",
    "--allow-http=false",
    "--allow-grpc=false",
    "--allow-metrics=false",
)
_ORCHESTRATOR_MEMORY: Final = ("--pinned-memory-pool-byte-size=0", "--enable-peer-access=false")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """What a server must be started with for the engine in its repository."""

    version: str
    """The TensorRT-LLM that built it; no other loads it."""
    world_size: int
    mode: Literal["leader", "orchestrator"] = "leader"
    plugins: bool = False
    """The engine calls TensorRT plugins of the kernel pack in its repository."""
    variables: tuple[tuple[str, str], ...] = ()
    """Names and values of TensorRT-LLM's own for the server, as the recipe asks."""

    @property
    def needs_mpirun(self) -> bool:
        """Whether each rank is a server process of its own."""
        return self.world_size > 1 and self.mode == "leader"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the backend reads: in orchestrator mode it starts a worker for each rank itself."""
        if self.world_size == 1 or self.mode == "leader":
            return {}
        return {"TRTLLM_ORCHESTRATOR": "1", "TRTLLM_ORCHESTRATOR_SPAWN_PROCESSES": "1"}


def ranks_command(
    server: str,
    arguments: Sequence[str],
    *,
    repository: str,
    launch: EngineLaunch | None,
    shared_memory_prefix: str,
) -> tuple[str, ...]:
    """The words that start every rank; `arguments` are those of the server that answers, which is rank 0.

    Raises:
        HostError: see `server_words`.
    """
    start = server_words(server, repository=repository, launch=launch)
    if launch is None or launch.world_size == 1:
        return (*start, *arguments)
    if launch.mode == "orchestrator":
        # The workers own the GPUs; the server itself must not hold memory on them.
        pools = (f"--cuda-memory-pool-byte-size={gpu}:0" for gpu in range(launch.world_size))
        return (*start, *arguments, *_ORCHESTRATOR_MEMORY, *pools)
    shared = [word for word in arguments if word.startswith(_OF_EVERY_RANK)]
    words = [*_MPIRUN, "-n", "1", *start, *arguments]
    for rank in range(1, launch.world_size):
        memory = f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}{rank}_"
        words += [":", "-n", "1", *start, *shared, *_FOLLOWER, memory]
    return tuple(words)


def server_words(server: str, *, repository: str, launch: EngineLaunch | None) -> tuple[str, ...]:
    """The words that start one server, before its options; `repository` is where it sees its models.

    Only the server gets the variables: no shell and no mpirun before it has TensorRT.

    Raises:
        HostError: the path of the repository cannot stand in LD_PRELOAD.
    """
    if launch is None:
        return (server,)
    preload = (_preload(repository),) if launch.plugins else ()
    words = (*preload, *(f"{name}={value}" for name, value in launch.variables))
    return ("env", *words, server) if words else (server,)


def _preload(repository: str) -> str:
    """The C++ backend of TensorRT-LLM has no option for plugin libraries, and Triton's own way is LD_PRELOAD.

    Source: docs/user_guide/custom_operations.md of triton-inference-server/server.
    """
    if not {" ", ":"}.isdisjoint(repository):
        raise HostError(
            f"{repository}: the engine's TensorRT plugins are loaded by LD_PRELOAD, which parts paths at "
            "blanks and colons.",
            hint="Move the output to a directory without them.",
        )
    return f"LD_PRELOAD={repository}/{KERNELS}/{LIBRARY}"
