"""`file://` values: a relative path starts at the directory of the file that says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.layers import Layer
    from bwdeploy.recipe.places import KeyPath

FILE_SCHEME = "file://"
EACH = "[]"
"""In a path below: every item of a list."""
URI_FIELDS: tuple[tuple[str, ...], ...] = (
    ("model", "source"),
    ("speculative", "draft"),
    ("quantize", "recipe"),
    ("quantize", "calibration", "dataset"),
    ("quantize", "training", "dataset"),
    ("speculative", "train", "data"),
    ("speculative", "measure", "prompts"),
    ("gate", "evaluation", "dataset"),
    ("gate", "reference"),
    ("gate", "tasks", EACH, "task"),
)
"""The fields that may hold a file:// value."""


def resolve_file_uris(layer: Layer) -> None:
    """Make every file:// value of `layer` absolute, in place; `--set` starts at the current directory."""
    for pattern in URI_FIELDS:
        for path, parent in _found(layer.data, pattern):
            value = parent[path[-1]]
            if isinstance(value, str) and value.startswith(FILE_SCHEME):
                said_by = layer.places.of_value(path).file
                parent[path[-1]] = FILE_SCHEME + _absolute(value.removeprefix(FILE_SCHEME), said_by)


def file_of(uri: str) -> Path:
    """The path of a resolved file:// value."""
    return Path(uri.removeprefix(FILE_SCHEME))


def _absolute(path: str, said_by: str) -> str:
    start = Path(said_by).absolute().parent if said_by else Path.cwd()
    # normpath and not resolve(): a link stays the name that the user gave.
    return os.path.normpath(start / path) if path else path


def _found(
    data: object, pattern: tuple[str, ...], below: KeyPath = ()
) -> Iterator[tuple[KeyPath, dict[str | int, Any]]]:
    """Each value that `pattern` names, as its path and the mapping that it stands in."""
    word, rest = pattern[0], pattern[1:]
    if word == EACH:
        for index, item in enumerate(data if isinstance(data, list) else ()):
            yield from _found(item, rest, (*below, index))
    elif isinstance(data, dict) and word in data:
        if rest:
            yield from _found(data[word], rest, (*below, word))
        else:
            yield (*below, word), data
