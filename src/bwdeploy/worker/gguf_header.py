"""The header of a GGUF file: metadata and tensor table, read with bounds checks and without its weights.

Says what is wrong with a file that is truncated, damaged or no GGUF at all, before a library is given it.
Large arrays (the vocabulary, the merges) are skipped.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 8
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the first part of the file says."""

    metadata: dict[str, Any]
    """Scalars and strings; arrays are left out."""
    tensors: int


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0

    def scalar(self, code: str) -> Any:  # noqa: ANN401 - int, float or bool, by the code
        (value,) = struct.unpack_from(f"<{code}", self.data, self.position)
        self.position += struct.calcsize(code)
        return value

    def string(self) -> str:
        return self.raw(self.scalar("Q")).decode("utf-8", errors="replace")

    def raw(self, length: int) -> bytes:
        self.skip(length)
        return self.data[self.position - length : self.position]

    def skip(self, length: int) -> None:
        if length > len(self.data) - self.position:
            raise struct.error(f"{length} bytes wanted at offset {self.position}")
        self.position += length

    def value(self, kind: int) -> Any:  # noqa: ANN401 - any metadata value; arrays give None
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._skip_array()
        return self.scalar(_SCALARS[kind])

    def _skip_array(self) -> None:
        kind, length = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            self.skip(struct.calcsize(_SCALARS[kind]) * length)
        elif kind == _STRING:
            for _ in range(length):
                self.skip(self.scalar("Q"))
        else:
            raise KeyError(kind)


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of `path`.

    Raises:
        ToolError: the file is no GGUF file, of an unknown version, damaged, or ends before its last tensor.
    """
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
        if magic != _MAGIC:
            raise ToolError(
                f"{path} is not a GGUF file: it starts with {magic!r}, not {_MAGIC!r}.",
                hint="model.source must name a .gguf file; use file://DIR for a Hugging Face directory.",
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(path, data)
            except (struct.error, KeyError, OverflowError, RecursionError) as error:
                raise _damaged(path, f"its header cannot be read ({error})") from error


def _parse(path: Path, data: mmap.mmap) -> GgufHeader:
    cursor = _Cursor(data)
    cursor.skip(len(_MAGIC))
    version = cursor.scalar("I")
    if version not in _VERSIONS:
        raise ToolError(
            f"{path} is GGUF version {version}; versions {_VERSIONS} are supported.",
            hint="Convert it again with a current llama.cpp (little-endian).",
        )
    tensors, entries = cursor.scalar("Q"), cursor.scalar("Q")
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        name = cursor.string()
        value = cursor.value(cursor.scalar("I"))
        if value is not None:
            metadata[name] = value
    ends = [_tensor_end(cursor) for _ in range(tensors)]
    alignment = int(metadata.get("general.alignment", _DEFAULT_ALIGNMENT)) or _DEFAULT_ALIGNMENT
    wanted = math.ceil(cursor.position / alignment) * alignment + max(ends, default=0)
    if wanted > len(data):
        raise _damaged(path, f"it has {len(data)} bytes, but its tensors end at byte {wanted}")
    return GgufHeader(metadata=metadata, tensors=tensors)


def _tensor_end(cursor: _Cursor) -> int:
    """End of one tensor's data, relative to the start of all tensor data."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: PLC0415 - worker only

    cursor.string()
    dimensions = cursor.scalar("I")
    if dimensions > _MAX_DIMENSIONS:
        raise KeyError(f"{dimensions} dimensions")
    elements = math.prod(cursor.scalar("Q") for _ in range(dimensions))
    kind, offset = cursor.scalar("I"), cursor.scalar("Q")
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError as error:
        raise KeyError(f"tensor type {kind}") from error
    return int(offset + elements // block * size)


def _damaged(path: Path, why: str) -> ToolError:
    return ToolError(
        f"{path} is truncated or damaged: {why}.",
        hint="Download it again and compare its size or checksum with the publisher's.",
    )
