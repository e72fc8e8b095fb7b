"""Where a source's configuration lies on this machine: a directory, a package, the hub's cache, or bundled.

Nothing is fetched. A directory with no more than a config.json is enough; a diffusers directory is entered
at its transformer. What cannot be read raises; what is not there gives None.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bwdeploy.facts.model_configs import bundled_model
from bwdeploy.model.json_file import read_json_object
from bwdeploy.model.packages import package_file
from bwdeploy.model.problem import ShapeError

_CONFIG, _QUANTIZATION = "config.json", "hf_quant_config.json"
_PIPELINE, _TRANSFORMER = "model_index.json", "transformer"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class FoundConfig(NamedTuple):
    """A configuration and where it was found."""

    config: dict[str, Any]
    origin: str
    quantization: dict[str, Any] | None = None
    directory: Path | None = None
    """Where the files lie that the configuration describes."""
    note: str = ""
    """What is assumed of it; empty when nothing is."""


def local_source(source: str) -> Path | None:
    """The file or directory of a source on this machine; None when it is not here.

    A hub source is looked up in the hub's cache, at its own revision and no other.
    """
    scheme, _, rest = source.partition("://")
    if scheme == "file":
        return _existing(Path(rest))
    if scheme == "package":
        return _package_file(rest)
    repository, _, revision = rest.partition("@")
    return _snapshot(repository, revision)


def find_config(source: str, place: Path | None) -> FoundConfig | None:
    """The configuration of a source whose files lie at `place` (see `local_source`).

    Raises:
        ShapeError: it is there but cannot be used.
    """
    if place is not None:
        found = _local_config(place)
        if found is not None:
            return found
    scheme, _, rest = source.partition("://")
    return _bundled(rest.partition("@")[0]) if scheme == "hf" else None


def _existing(path: Path) -> Path | None:
    try:
        return path if path.exists() else None
    except (OSError, ValueError):  # a name that is too long or holds a NUL byte cannot exist
        return None


@cache
def _package_file(rest: str) -> Path | None:
    """A file below an installed package's folder, `dist-name/path/inside`."""
    distribution, _, inside = rest.partition("/")
    if not inside or ".." in inside.split("/"):
        return None
    found = package_file(distribution, inside)
    return _existing(found) if found else None


def _snapshot(repository: str, revision: str) -> Path | None:
    if not _REPOSITORY.fullmatch(repository):
        return None
    folder = _hub_cache() / f"models--{repository.replace('/', '--')}"
    name = revision or "main"
    if not _COMMIT.fullmatch(name):
        if set(name) & {"/", "\0"} or name.startswith("."):
            return None
        name = _commit_of(folder / "refs" / name)
    snapshot = _existing(folder / "snapshots" / name) if name else None
    return snapshot if snapshot is not None and _existing(snapshot / _CONFIG) else None


def _hub_cache() -> Path:
    """As huggingface_hub looks for it."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME") or os.path.join(  # noqa: PTH118 - Path.home() may raise
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),  # noqa: PTH111
        "huggingface",
    )
    return Path(home) / "hub"


def _commit_of(reference: Path) -> str:
    try:
        with reference.open("rb") as file:
            text = file.read(64).decode("ascii", errors="replace").strip()
    except (OSError, ValueError):
        return ""
    return text if _COMMIT.fullmatch(text) else ""


def _local_config(place: Path) -> FoundConfig | None:
    if place.is_file():
        if place.suffix != ".gguf":
            return None
        from bwdeploy.model.gguf_config import read_gguf_config  # noqa: PLC0415 - few recipes need it

        return FoundConfig(read_gguf_config(place), f"header of {place.name}")
    directory = place
    if not (place / _CONFIG).exists():
        directory = place / _TRANSFORMER
        if not (place / _PIPELINE).exists() and not (directory / _CONFIG).exists():
            return None
    config = read_json_object(directory / _CONFIG)
    return FoundConfig(
        config, str(directory / _CONFIG), _quantization(directory, config), directory=directory
    )


def _quantization(directory: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """ModelOpt's own file first: config.json repeats it, in another spelling, only in newer exports."""
    beside = directory / _QUANTIZATION
    if beside.exists():
        content = read_json_object(beside).get("quantization")
        if not isinstance(content, dict):
            message = f"{beside} has no section `quantization`"
            raise ShapeError("quantization", message, "export the checkpoint again", kind="not-json")
        return content
    return own_quantization(config)


def own_quantization(config: dict[str, Any]) -> dict[str, Any] | None:
    """What a configuration says of its own quantization."""
    for place in (config, config.get("text_config")):
        found = place.get("quantization_config") if isinstance(place, dict) else None
        if isinstance(found, dict) and found:
            return found
    return None


def _bundled(hub_id: str) -> FoundConfig | None:
    found = bundled_model(hub_id)
    if found is None:
        return None
    quantization = found.quantization or own_quantization(found.config)
    return FoundConfig(found.config, f"bundled configuration of {hub_id}", quantization, note=found.note)
