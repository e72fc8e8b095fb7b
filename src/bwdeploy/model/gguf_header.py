"""The header of a GGUF file, without its weights: metadata and the table of tensors, read with bounds checks.

Large arrays (the vocabulary, the merges) are skipped, their lengths kept. Needs no library; whether the
tensors' data is all there is for the reader that knows the sizes of quantized blocks.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 8
_LENGTH = struct.Struct("<Q")


class GgufTensor(NamedTuple):
    """One row of the table."""

    name: str
    dimensions: tuple[int, ...]
    """Input features first."""
    kind: int
    offset: int
    """From the start of all tensor data."""


class GgufHeader(NamedTuple):
    """What the first part of the file says."""

    metadata: dict[str, Any]
    """Scalars and strings; of an array its length."""
    arrays: frozenset[str]
    """The keys of `metadata` that stand for arrays."""
    tensors: tuple[GgufTensor, ...]
    end: int
    """First byte after the table."""
    file_bytes: int


class GgufError(Exception):
    """A file that is no GGUF file, of an unknown version, or damaged."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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

    def array(self) -> int:
        """Skip one; its length."""
        kind, length = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            self.skip(struct.calcsize(_SCALARS[kind]) * length)
        elif kind == _STRING:
            self._skip_strings(length)
        else:
            raise KeyError(kind)
        return int(length)

    def _skip_strings(self, count: int) -> None:
        """A vocabulary has a hundred thousand of them: no method calls in here."""
        data, position, unpack, size = self.data, self.position, _LENGTH.unpack_from, len(self.data)
        for _ in range(count):
            position += 8 + unpack(data, position)[0]
            if position > size:
                raise struct.error(f"a string ends at offset {position}")
        self.position = position


def parse_header(path: Path) -> GgufHeader:
    """Read the header of `path`.

    Raises:
        GgufError: no GGUF file, of an unknown version, or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise GgufError(
                f"{path} is not a GGUF file: it starts with {magic!r}, not {MAGIC!r}.",
                "model.source must name a .gguf file; use file://DIR for a Hugging Face directory.",
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(path, data)
            except (struct.error, KeyError, OverflowError, RecursionError, MemoryError) as error:
                raise damaged(path, f"its header cannot be read ({error})") from error


def damaged(path: Path, why: str) -> GgufError:
    """The error for a file that was cut or changed."""
    return GgufError(
        f"{path} is truncated or damaged: {why}.",
        "Download it again and compare its size or checksum with the publisher's.",
    )


def _parse(path: Path, data: mmap.mmap) -> GgufHeader:
    cursor = _Cursor(data)
    cursor.skip(len(MAGIC))
    version = cursor.scalar("I")
    if version not in VERSIONS:
        raise GgufError(
            f"{path} is GGUF version {version}; versions {VERSIONS} are supported.",
            "Convert it again with a current llama.cpp (little-endian).",
        )
    count, entries = cursor.scalar("Q"), cursor.scalar("Q")
    metadata: dict[str, Any] = {}
    arrays = set()
    for _ in range(entries):
        name, kind = cursor.string(), cursor.scalar("I")
        if kind == _ARRAY:
            metadata[name] = cursor.array()
            arrays.add(name)
        else:
            metadata[name] = cursor.string() if kind == _STRING else cursor.scalar(_SCALARS[kind])
    tensors = tuple(_tensor(cursor) for _ in range(count))
    return GgufHeader(metadata, frozenset(arrays), tensors, cursor.position, len(data))


def _tensor(cursor: _Cursor) -> GgufTensor:
    name, count = cursor.string(), cursor.scalar("I")
    if count > _MAX_DIMENSIONS:
        raise KeyError(f"{count} dimensions")
    dimensions = tuple(cursor.scalar("Q") for _ in range(count))
    return GgufTensor(name, dimensions, cursor.scalar("I"), cursor.scalar("Q"))
