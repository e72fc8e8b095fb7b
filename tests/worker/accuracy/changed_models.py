"""Models that differ from another one in their tensors."""

from __future__ import annotations

import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def changed(source: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of `source` with other tensors."""
    files = import_module("safetensors.torch")
    shutil.copytree(source, out)
    tensors = files.load_file(out / "model.safetensors")
    change(tensors)
    files.save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out
