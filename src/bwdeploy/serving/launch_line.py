"""The launch script beside a deployment: the words that start its server, without bwdeploy.

A script knows two things only when it runs, so a word may hold a mark for each: `HERE`, the script's own
directory, and `SECRET`, a random word that closes the server's administration routes. Everything else is
quoted as it is. It starts nothing.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bwdeploy.tools.executors.images import enroot_reference
from bwdeploy.tools.triton_container import REPOSITORY_INSIDE, container_command, image_for
from bwdeploy.tools.triton_ranks import server_words
from bwdeploy.tools.triton_request import LaunchIdentity, Ports, ServerRequest, server_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy.recipe.schema import Layout
    from bwdeploy.tools.triton_ranks import EngineLaunch

LAUNCH: Final = "launch.sh"
"""The script's name, wherever it lies."""

HERE: Final = "@bwdeploy-here@"
SECRET: Final = "@bwdeploy-secret@"  # noqa: S105 - a mark, never a secret

_PORTS: Final = Ports(http=8000, grpc=8001, metrics=8002)
_IDENTITY: Final = LaunchIdentity(token="launch", secret=SECRET)  # noqa: S106 - part of a name
_MARKS: Final = {HERE: '"$PWD"', SECRET: '"$secret"'}
_MARK: Final = re.compile("|".join(map(re.escape, _MARKS)))
_ENTER: Final = 'CDPATH="" cd -- "$(dirname -- "$0")"'
_PYXIS_MOUNT: Final = "--container-mounts="
_REFUSE_ODD_PLACE: Final = (
    "case $PWD in *[{signs}]*) "
    'echo "$PWD: no mount can name a directory with one of {signs} in it; move it." >&2; exit 2;; esac'
)
"""These signs part one field of a mount from the next, so that a name could add options."""
_DRAW_WORD: Final = "secret=\"$(od -An -N24 -tx1 /dev/urandom | tr -d ' \\n')\""
_OWN_RANK: Final = (
    'exec {server} "$@" '
    '--backend-config="python,shm-region-prefix-name='
    f'{_IDENTITY.shared_memory_prefix}${{{{SLURM_JOB_ID}}}}_${{{{SLURM_PROCID}}}}_"'
)
"""Each rank of each job needs its own name for shared memory, and Slurm tells both only when it runs."""


def launch_words(name: str, *, repository: str, engine: EngineLaunch, layout: Layout) -> tuple[str, ...]:
    """The words that serve the engine in the directory `repository` beside the script.

    On one machine a docker container with the engine's TensorRT-LLM; over several the same image under
    `srun` with pyxis, a task for each rank.

    Raises:
        HostError: no known Triton image carries that version.
    """
    place = f"{HERE}/{repository}"
    if layout.nodes == 1:
        request = ServerRequest(
            repository=Path(place), log=Path(os.devnull), tensorrt_llm=engine.version, engine=engine
        )
        return container_command(
            Path("docker"), request, name=f"bwdeploy-{name}", ports=_PORTS, identity=_IDENTITY
        )
    arguments = server_arguments(
        repository=REPOSITORY_INSIDE,
        ports=_PORTS,
        address="127.0.0.1",
        identity=_IDENTITY,
        exit_timeout_s=5,
    )
    shared = tuple(word for word in arguments if not word.startswith("--backend-config="))
    return (
        *srun_words(layout, ranks=engine.world_size, image=image_for(engine.version)),
        f"{_PYXIS_MOUNT}{place}:{REPOSITORY_INSIDE}:ro",
        "sh",
        "-c",
        _OWN_RANK.format(
            server=shlex.join(server_words("tritonserver", repository=REPOSITORY_INSIDE, launch=engine))
        ),
        "sh",
        *shared,
    )


def srun_words(layout: Layout, *, ranks: int, image: str) -> tuple[str, ...]:
    """`srun` with a task for each rank in a pyxis container; pyxis parts registry and image by a `#`."""
    return (
        "srun",
        f"--nodes={layout.nodes}",
        f"--ntasks={ranks}",
        f"--ntasks-per-node={-(-ranks // layout.nodes)}",
        "--mpi=pmix",
        f"--container-image={enroot_reference(image)}",
    )


def write_launch_script(
    path: Path, words: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> None:
    """Write an executable script that runs `words` in its own directory, with `environment` beside its own.

    Raises:
        OSError: it cannot be written.
    """
    needs_secret = any(SECRET in word for word in words)
    mounts = [word for word in words if HERE in word]
    signs = r",:" if any(word.startswith(_PYXIS_MOUNT) for word in mounts) else r",\""
    lines = (
        "#!/bin/sh",
        "set -eu",
        _ENTER,
        *((_REFUSE_ODD_PLACE.format(signs=signs),) if mounts else ()),
        *((_DRAW_WORD,) if needs_secret else ()),
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted((environment or {}).items())),
        "exec " + " \\\n  ".join(map(_quoted, words)),
        "",
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o755)


def _quoted(word: str) -> str:
    """One word of the shell; what stands for a mark is expanded there, and never split."""
    plain = [shlex.quote(part) if part else "" for part in _MARK.split(word)]
    marks = [_MARKS[mark] for mark in _MARK.findall(word)]
    return "".join(text for pair in zip(plain, [*marks, ""], strict=True) for text in pair) or "''"
