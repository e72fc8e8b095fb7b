"""The command line that runs a Triton container with docker or podman.

It mounts the model repository read-only and nothing else, publishes three ports on the loopback address,
drops capabilities and passes no shell. The image follows from the TensorRT-LLM version of the recipe.
It starts nothing.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final, Literal

from bwdeploy.errors import HostError
from bwdeploy.facts.stacks import triton_image, versions_with_images
from bwdeploy.tools.triton_request import LOOPBACK, STACK_BYTES, Ports, server_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.tools.triton_request import LaunchIdentity, ServerRequest

_REGISTRY_IMAGE: Final = "nvcr.io/nvidia/tritonserver:{release}-trtllm-python-py3"
_INSIDE: Final = Ports(http=8000, grpc=8001, metrics=8002)
_REPOSITORY_INSIDE: Final = "/models"


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


def container_command(
    program: Path, request: ServerRequest, *, name: str, ports: Ports, identity: LaunchIdentity
) -> tuple[str, ...]:
    """`docker run …` (or podman) for one launch.

    Raises:
        HostError: no known image for the TensorRT-LLM version.
    """
    image = request.image or image_for(request.tensorrt_llm)
    published = zip(_numbers(ports), _numbers(_INSIDE), strict=True)
    return (
        str(program),
        "run",
        "--rm",
        "--init",
        f"--name={name}",
        *(f"--publish={LOOPBACK}:{outside}:{inside}" for outside, inside in published),
        f"--mount={_read_only_mount(request.repository)}",
        *_gpu_options(program.name, request.gpus),
        "--shm-size=2g",
        "--ulimit=memlock=-1:-1",
        f"--ulimit=stack={STACK_BYTES}:{STACK_BYTES}",
        "--cap-drop=ALL",
        "--cap-add=DAC_OVERRIDE",  # the server runs as root and must read a user's private files
        "--security-opt=no-new-privileges",
        image,
        "tritonserver",
        *server_arguments(
            repository=_REPOSITORY_INSIDE,
            ports=_INSIDE,
            address="0.0.0.0",  # noqa: S104 - inside the container; published on loopback only
            identity=identity,
            exit_timeout_s=request.exit_timeout_s,
        ),
    )


def removal_command(program: Path, *, name: str) -> tuple[str, ...]:
    """The command that ends and removes the container, whatever became of `docker run`."""
    return (str(program), "rm", "--force", name)


def _numbers(ports: Ports) -> tuple[int, int, int]:
    return (ports.http, ports.grpc, ports.metrics)


def _read_only_mount(repository: Path) -> str:
    """The value of --mount: comma separated, quoted as CSV, so that no path can add an option."""
    text = io.StringIO()
    fields = ("type=bind", f"source={repository}", f"target={_REPOSITORY_INSIDE}", "readonly")
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def _gpu_options(program: str, gpus: Literal["all", "none"]) -> tuple[str, ...]:
    if gpus == "none":
        return ()
    return ("--gpus=all",) if program == "docker" else ("--device=nvidia.com/gpu=all",)
