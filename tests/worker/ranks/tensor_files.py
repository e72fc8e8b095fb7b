"""Reading and changing weight files in tests."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, Any]


def tensors_of(directory: Path) -> Tensors:
    """All tensors of a unified checkpoint."""
    found: Tensors = {}
    for path in directory.glob("model*.safetensors"):
        found |= import_module("safetensors.torch").load_file(path)
    return found


def rank_tensors(directory: Path, rank: int) -> Tensors:
    """All tensors of a rank."""
    loaded: Tensors = import_module("safetensors.torch").load_file(directory / f"rank{rank}.safetensors")
    return loaded


def change_rank(directory: Path, rank: int, change: Callable[[Tensors], None]) -> None:
    """Rewrite the file of a rank."""
    tensors = {name: tensor.clone() for name, tensor in rank_tensors(directory, rank).items()}
    change(tensors)
    path = directory / f"rank{rank}.safetensors"
    import_module("safetensors.torch").save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def differing(one: Tensors, other: Tensors) -> set[str]:
    """Names of tensors that only one side has, or whose dtype, shape or bytes differ."""
    torch = import_module("torch")
    return (one.keys() ^ other.keys()) | {
        name
        for name in one.keys() & other.keys()
        if one[name].dtype != other[name].dtype
        or one[name].shape != other[name].shape
        or not torch.equal(one[name].reshape(-1).view(torch.uint8), other[name].reshape(-1).view(torch.uint8))
    }
