"""How the text data sets that a recipe names enter a stage: by content where they lie on this machine.

A file's path does not count for the key, its content and suffix do. The built-in text ships with CPython and
differs between its versions, so it is a source like any file. Hub data sets are named with their revision.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.recipe.uris import FILE_SCHEME, file_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUILTIN = "builtin://python-topics"
_BUILTIN_MODULE = "pydoc_data.topics"


def dataset_sources(dataset: str, *, name: str) -> dict[str, Path]:
    """The files of a data set as sources of a step; empty for one on a hub."""
    if dataset.startswith(FILE_SCHEME):
        return {name: file_of(dataset)}
    spec = find_spec(_BUILTIN_MODULE) if dataset == _BUILTIN else None
    return {name: Path(spec.origin)} if spec and spec.origin else {}


def placed_dataset(dataset: str) -> str:
    """The data set as it enters the key."""
    return f"{FILE_SCHEME}{file_of(dataset).suffix}" if dataset.startswith(FILE_SCHEME) else dataset


def found_dataset(placed: str, sources: Mapping[str, Path], *, name: str) -> str:
    """The data set as the worker reads it: a placed file with its path again."""
    return f"{FILE_SCHEME}{sources[name]}" if placed.startswith(FILE_SCHEME) else placed
