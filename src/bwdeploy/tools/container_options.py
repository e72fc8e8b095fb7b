"""Options of `docker run` and `podman run` that a served model and a job of a build need alike."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def bind_mount(source: Path, *, target: Path | str, writable: bool) -> str:
    """The value of --mount: comma separated, quoted as CSV, so that no path can add an option."""
    text = io.StringIO()
    fields = ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def gpu_options(gpus: tuple[str, ...] | None, *, podman: bool) -> tuple[str, ...]:
    """What lets a container see `gpus`: indices or UUIDs, or None for all of the machine."""
    if podman:
        return tuple(f"--device=nvidia.com/gpu={gpu}" for gpu in (("all",) if gpus is None else gpus))
    if gpus is None:
        return ("--gpus=all",)
    # docker reads the value as CSV: the quotes keep the list one field.
    return (f'--gpus="device={",".join(gpus)}"',) if gpus else ()
