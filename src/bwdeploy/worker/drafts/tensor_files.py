"""Tensors in the job's state: safetensors files that are whole or not there, even after kill -9.

A file is written beside its place, synchronized and renamed. Facts about it travel as JSON in its header.
What cannot be read counts as absent: the state is only there to save work.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_LOG = logging.getLogger(__name__)


class StoredTensors(NamedTuple):
    """The content of a file."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Write `path`; another process sees it whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")  # of one name: what a killed job left is overwritten
    try:
        save_file(dict(tensors), temporary, metadata={"facts": json.dumps(facts)})
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> StoredTensors | None:
    """What `write_tensors` wrote, on the CPU; None when there is nothing that can be read."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        _LOG.warning("%s is left out: %s", path, error)
        return None
    return StoredTensors(tensors, facts)
