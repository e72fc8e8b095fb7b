"""How the text data sets that a recipe names enter a stage: local files by content, others by name."""

from __future__ import annotations

from pathlib import Path

_FILE = "file://"


def dataset_sources(dataset: str, *, name: str) -> dict[str, Path]:
    """The local file of a data set as a step's source; empty when it is not a file."""
    return {name: Path(dataset.removeprefix(_FILE))} if dataset.startswith(_FILE) else {}


def placed_dataset(dataset: str) -> str:
    """The data set as it enters the key: a file's path does not count, its content does.

    The suffix stays, because it decides how the file is read.
    """
    return f"{_FILE}{Path(dataset).suffix}" if dataset.startswith(_FILE) else dataset
