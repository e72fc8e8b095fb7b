"""The size of a checkpoint: counted from the formats of its weights, or read from its safetensors headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bwdeploy.model.shape import ModelShape
    from bwdeploy.planner.memory.kv_cache import KvFormat
    from bwdeploy.planner.weights.precision import StoredWeight

_KV_SCALE_BYTES = 2 * 4
"""k_scale and v_scale, FP32 scalars of a layer."""
_SCALED_CACHES = frozenset({"fp8", "nvfp4"})


class Checkpoint(NamedTuple):
    """Bytes of all tensors of a checkpoint."""

    estimated_bytes: int
    """From the shape and the formats."""
    header_bytes: int | None
    """From the headers of its files, where they are on this machine."""

    @property
    def bytes(self) -> int:
        """The truth where it is known."""
        return self.estimated_bytes if self.header_bytes is None else self.header_bytes

    @property
    def estimate_error(self) -> float | None:
        """How far the estimate was, relative to the truth: 0.001 is 0.1 % too much."""
        if not self.header_bytes:
            return None
        return self.estimated_bytes / self.header_bytes - 1


def estimated_checkpoint_bytes(
    stored: Iterable[StoredWeight], shape: ModelShape, cache: KvFormat, *, brings_kv_scales: bool
) -> int:
    """Of every tensor, multi-token prediction layers and scales included."""
    scaled = brings_kv_scales and cache.name in _SCALED_CACHES
    cached = sum(layer.attention.kind == "gqa" for layer in shape.layers) if scaled else 0
    return sum(part.checkpoint_bytes for part in stored) + cached * _KV_SCALE_BYTES


def header_bytes(directory: Path) -> int | None:
    """Of every tensor in a directory's safetensors files; None when there are none that can be read."""
    # Few recipes have such a directory, so that the reader is imported only for them.
    from bwdeploy.model.headers import tensor_sizes  # noqa: PLC0415

    try:
        return sum(header.bytes for header in tensor_sizes(directory).values()) or None
    except (OSError, ShapeError):
        return None
