"""Ask docker or podman for an image: is it here, fetch it if that is wanted, and what is its digest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.errors import HostError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.tools.executors.guarded import run_guarded
from bwdeploy.tools.executors.launch import last_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.tools.executors.launch import Launch, Watch

_INSPECT_TIMEOUT_S = 60
_NO_DAEMON = ("cannot connect to the docker daemon", "cannot connect to podman", "connection refused")
_NO_PERMISSION = ("permission denied",)


def found_image(
    program: str, image: str, launch: Launch, watch: Watch, *, fetch: bool, environment: Mapping[str, str]
) -> str | None:
    """Make sure that `image` is here; its registry digest, `sha256:…`, or None when it was built here.

    Raises:
        HostError: the container program does not answer, or the image cannot be had.
        InterruptedBuild: the user interrupted the download.
    """
    digests = present_image(program, image, fetch=fetch)
    if digests is None:
        watch.on_progress(Progress(phase=f"pull {image}"))
        pull = (program, "pull", image)
        if run_guarded(pull, launch, watch, environment=environment) != 0:
            raise _not_fetched(program, image, last_lines(launch.log))
        digests = present_image(program, image, fetch=False)
    return _digest(digests or "")


def present_image(program: str, image: str, *, fetch: bool) -> str | None:
    """The registry digests of `image` as the program prints them; None when it is yet to be fetched.

    Raises:
        HostError: the container program does not answer, or the image is not here and may not be fetched.
    """
    found = _inspected(program, image)
    if found.returncode == 0:
        return found.stdout
    problem = _program_problem(program, found.stderr)
    if problem or not fetch:
        raise problem or _not_here(program, image)
    return None


def _inspected(program: str, image: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            (program, "image", "inspect", "--format={{json .RepoDigests}}", image),
            capture_output=True,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_INSPECT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise HostError(
            f"{program} did not answer within {_INSPECT_TIMEOUT_S} s", hint=f"Is it well: {program} info"
        ) from None


def _digest(text: str) -> str | None:
    try:
        digests = json.loads(text)
    except ValueError:
        return None
    if not isinstance(digests, list) or not digests:
        return None
    _, _, digest = str(digests[0]).rpartition("@")
    return digest or None


def _program_problem(program: str, stderr: str) -> HostError | None:
    """The error when the container program itself does not work, or None."""
    said = stderr.strip()
    name = Path(program).name
    if any(words in said.lower() for words in _NO_PERMISSION):
        return HostError(
            f"You may not use {name}: {said}",
            hint=f"Ask for the rights to use {name}, or set container.program to podman",
        )
    if any(words in said.lower() for words in _NO_DAEMON):
        return HostError(
            f"{name} does not answer: {said}", hint=f"Start its service (`systemctl start {name}`)"
        )
    return None


def _not_here(program: str, image: str) -> HostError:
    return HostError(
        f"The image {image} is not on this machine, and container.pull is never",
        hint=f"Fetch it: {Path(program).name} pull {image}",
    )


def _not_fetched(program: str, image: str, lines: tuple[str, ...]) -> HostError:
    reason = lines[-1] if lines else "it gave no reason"
    return HostError(
        f"The image {image} could not be fetched: {reason}",
        hint=f"Try it by hand: {Path(program).name} pull {image} (a registry may ask for a login first)",
    )
