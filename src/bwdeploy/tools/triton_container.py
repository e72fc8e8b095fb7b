"""The command line that runs a Triton container with docker or podman.

It mounts the model repository read-only and nothing else, publishes three ports on the loopback address,
drops capabilities and passes no shell. The image follows from the TensorRT-LLM version of the recipe.
It starts nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import HostError
from bwdeploy.facts.stacks import stack_of_image, triton_image, versions_with_images
from bwdeploy.tools.container_options import bind_mount, gpu_options
from bwdeploy.tools.triton_ranks import ranks_command
from bwdeploy.tools.triton_request import LOOPBACK, STACK_BYTES, Ports, server_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.tools.triton_ranks import EngineLaunch
    from bwdeploy.tools.triton_request import LaunchIdentity, ServerRequest

_REGISTRY_IMAGE: Final = "nvcr.io/nvidia/tritonserver:{release}-trtllm-python-py3"
_INSIDE: Final = Ports(http=8000, grpc=8001, metrics=8002)
_TAG: Final = re.compile(r"(?:^|/)tritonserver:(\d\d\.\d\d)-trtllm-python-py3$")

REPOSITORY_INSIDE: Final = "/models"
"""Where the container sees the repository; an engine's config.pbtxt holds paths below it."""


def image_for(tensorrt_llm: str) -> str:
    """The Triton image that carries this TensorRT-LLM.

    Raises:
        HostError: no known image does.
    """
    release = triton_image(tensorrt_llm)
    if release is None:
        known = ", ".join(versions_with_images())
        raise HostError(
            f"No known Triton image carries TensorRT-LLM {tensorrt_llm}.",
            hint=f"Set engine.tensorrt_llm to one of {known}, or name an image.",
        )
    return _REGISTRY_IMAGE.format(release=release)


def check_image(image: str, engine: EngineLaunch) -> str:
    """Whether `image` can load the engine: "" when it can, a remark when nobody here knows.

    Raises:
        HostError: it carries another TensorRT-LLM than the one that built the engine.
    """
    found = _TAG.search(image)
    stack = stack_of_image(found[1]) if found else None
    if stack is None:
        return f"{image} is no image that is known; it must carry TensorRT-LLM {engine.version} exactly"
    if stack.tensorrt_llm != engine.version:
        release = triton_image(engine.version)
        raise HostError(
            f"{image} carries TensorRT-LLM {stack.tensorrt_llm}, and TensorRT-LLM {engine.version} built the "
            "engine: no other version loads it, not even another patch.",
            hint=f"Use {_REGISTRY_IMAGE.format(release=release)}."
            if release
            else f"Build the engine again with engine.tensorrt_llm: {stack.tensorrt_llm}.",
        )
    return ""


def container_command(
    program: Path, request: ServerRequest, *, name: str, ports: Ports, identity: LaunchIdentity
) -> tuple[str, ...]:
    """`docker run …` (or podman) for one launch.

    Raises:
        HostError: no known image for the TensorRT-LLM version.
    """
    image = request.image or image_for(request.tensorrt_llm)
    environment = request.engine.environment if request.engine else {}
    published = zip(_numbers(ports), _numbers(_INSIDE), strict=True)
    return (
        str(program),
        "run",
        "--rm",
        "--init",
        f"--name={name}",
        *(f"--publish={LOOPBACK}:{outside}:{inside}" for outside, inside in published),
        f"--mount={bind_mount(request.repository, target=REPOSITORY_INSIDE, writable=False)}",
        *(f"--env={name}={value}" for name, value in environment.items()),
        *gpu_options(None if request.gpus == "all" else (), podman=program.name != "docker"),
        "--shm-size=2g",
        "--ulimit=memlock=-1:-1",
        f"--ulimit=stack={STACK_BYTES}:{STACK_BYTES}",
        "--cap-drop=ALL",
        "--cap-add=DAC_OVERRIDE",  # the server runs as root and must read a user's private files
        "--security-opt=no-new-privileges",
        image,
        *ranks_command(
            "tritonserver",
            server_arguments(
                repository=REPOSITORY_INSIDE,
                ports=_INSIDE,
                address="0.0.0.0",  # noqa: S104 - inside the container; published on loopback only
                identity=identity,
                exit_timeout_s=request.exit_timeout_s,
            ),
            repository=REPOSITORY_INSIDE,
            launch=request.engine,
            shared_memory_prefix=identity.shared_memory_prefix,
        ),
    )


def removal_command(program: Path, *, name: str) -> tuple[str, ...]:
    """The command that ends and removes the container, whatever became of `docker run`."""
    return (str(program), "rm", "--force", name)


def _numbers(ports: Ports) -> tuple[int, int, int]:
    return (ports.http, ports.grpc, ports.metrics)
