"""Which image a job runs in, and whether it can be the right one for a TensorRT-LLM version.

Images are known by their tag alone: those of Triton with TensorRT-LLM, and those of TensorRT-LLM itself, as
a reference or as the name of a .sqsh file. Any other name is taken as it is.
"""

from __future__ import annotations

import re
from typing import Final

from bwdeploy.errors import HostError
from bwdeploy.facts.stacks import stack_of_image
from bwdeploy.tools.triton_container import image_for

_TRITON_TAG: Final = re.compile(r"(?<![0-9.])([0-9]{2}\.[0-9]{2})-trtllm-python-py3(?![0-9A-Za-z])")
_RELEASE_TAG: Final = re.compile(
    r"tensorrt-llm[/+](?:release|devel)[:+]([0-9][0-9A-Za-z.]*?)(?:\.sqsh)?(?:@|$)"
)
_DIGEST: Final = re.compile(r"@(sha256:[0-9a-f]{64})$")


def chosen_image(image: str | None, *, tensorrt_llm: str) -> str:
    """The image of the settings, or else the newest known one that carries this TensorRT-LLM.

    Raises:
        HostError: the image is known to carry another version, or none is known to carry this one.
    """
    if image is None:
        return image_for(tensorrt_llm)
    carried = carried_version(image)
    if tensorrt_llm and carried and carried != tensorrt_llm:
        raise HostError(
            f"The image {image} carries TensorRT-LLM {carried}; the recipe asks for {tensorrt_llm}",
            hint=f"Set engine.tensorrt_llm to {carried}, or leave the image out of the executor file",
        )
    return image


def carried_version(image: str) -> str | None:
    """The TensorRT-LLM version that the tag of an image stands for, or None."""
    triton = _TRITON_TAG.search(image)
    if triton is not None:
        stack = stack_of_image(triton.group(1))
        return stack.tensorrt_llm if stack else None
    release = _RELEASE_TAG.search(image)
    return release.group(1) if release else None


def enroot_reference(image: str) -> str:
    """A registry image in the form that enroot and pyxis read: REGISTRY#NAME:TAG."""
    registry, slash, rest = image.partition("/")
    is_registry = slash and ("." in registry or ":" in registry)
    if "#" in image or not is_registry:
        return image
    return f"{registry}#{rest}"


def pinned_digest(image: str) -> str | None:
    """The digest that an image reference itself carries, or None."""
    found = _DIGEST.search(image)
    return found.group(1) if found else None
