"""`file://` values: a relative path starts at the directory of the file that says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bwdeploy.recipe.layers import Layer

FILE_SCHEME = "file://"
URI_FIELDS: tuple[tuple[str, ...], ...] = (
    ("model", "source"),
    ("speculative", "draft"),
    ("quantize", "recipe"),
    ("quantize", "calibration", "dataset"),
    ("gate", "evaluation", "dataset"),
)
"""The fields that may hold a file:// value."""


def resolve_file_uris(layer: Layer) -> None:
    """Make every file:// value of `layer` absolute, in place; `--set` starts at the current directory."""
    for path in URI_FIELDS:
        parent = _mapping_at(layer.data, path[:-1])
        value = parent.get(path[-1]) if parent is not None else None
        if isinstance(value, str) and value.startswith(FILE_SCHEME) and parent is not None:
            said_by = layer.places.of_value(path).file
            parent[path[-1]] = FILE_SCHEME + _absolute(value.removeprefix(FILE_SCHEME), said_by)


def file_of(uri: str) -> Path:
    """The path of a resolved file:// value."""
    return Path(uri.removeprefix(FILE_SCHEME))


def _absolute(path: str, said_by: str) -> str:
    start = Path(said_by).absolute().parent if said_by else Path.cwd()
    # normpath and not resolve(): a link stays the name that the user gave.
    return os.path.normpath(start / path) if path else path


def _mapping_at(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    at: Any = data
    for word in path:
        at = at.get(word) if isinstance(at, dict) else None
    return at if isinstance(at, dict) else None
