"""Headers of safetensors files: names, types and shapes of every tensor, without a byte of the weights.

Eight bytes of length, then that much JSON: https://huggingface.co/docs/safetensors. Reads them with the
standard library and checks every bound; a damaged file is refused, never half believed.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.model.json_file import read_json_object
from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES = 100 * 2**20
"""As safetensors itself."""
MAX_FILES = 4096
_MAX_INDEX_BYTES = 64 * 2**20
_INDEXES = ("model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json")
_LENGTH = struct.Struct("<Q")
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16,
    "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6, "C64": 64,
}  # fmt: skip
_AGAIN = "download the file again and compare its size with the publisher's"


class TensorHeader(NamedTuple):
    """One tensor as its file describes it."""

    dtype: str
    """In safetensors' spelling: BF16, F8_E4M3, U8 …"""
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        """Of the stored type; two packed FP4 values count as one U8."""
        return math.prod(self.shape)


def tensor_sizes(directory: Path) -> dict[str, TensorHeader]:
    """Every tensor of the safetensors files in `directory`; empty without such files or when all are empty.

    Raises:
        ShapeError: a file is damaged, unreadable, or named by the index and not there.
    """
    tensors: dict[str, TensorHeader] = {}
    for file in weight_files(directory):
        tensors.update(read_header(file))
    return tensors


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files that make up the model: those of its index, else all of the directory.

    Raises:
        ShapeError: the index is damaged or names files that do not exist.
    """
    for name in _INDEXES:
        if (directory / name).exists():
            return _indexed(directory, name)
    try:
        found = sorted(path for path in directory.glob("*.safetensors") if path.stat().st_size)
    except OSError as error:
        message = f"{directory} cannot be read: {error.strerror}"
        raise ShapeError("", message, "check its permissions", kind="unreadable") from None
    if len(found) > MAX_FILES:
        raise ShapeError("", f"{directory} holds {len(found)} safetensors files", _AGAIN, kind="too-large")
    return tuple(found)


def _indexed(directory: Path, name: str) -> tuple[Path, ...]:
    table = read_json_object(directory / name, max_bytes=_MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise ShapeError("weight_map", f"{directory / name} has no weight_map", _AGAIN, kind="not-json")
    names = sorted(set(table.values()))
    if len(names) > MAX_FILES or any("/" in one or one in {"", ".", ".."} for one in names):
        message = f"{directory / name} names files outside its directory, or too many"
        raise ShapeError("weight_map", message, _AGAIN, kind="not-json")
    missing = [one for one in names if not (directory / one).is_file()]
    if missing:
        message = f"{len(missing)} of {len(names)} weight files are missing, the first is {missing[0]}"
        raise ShapeError("weight_map", message, "download the model again", kind="unreadable")
    return tuple(directory / one for one in names)


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of one file.

    Raises:
        ShapeError: it is damaged or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            start = stream.read(_LENGTH.size)
            if len(start) < _LENGTH.size:
                raise _damaged(file, f"it has only {size} bytes")
            (length,) = _LENGTH.unpack(start)
            if length > min(MAX_HEADER_BYTES, size - _LENGTH.size):
                raise _damaged(file, f"its header would have {length:,} bytes")
            text = stream.read(length)
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror or type(error).__name__}"
        raise ShapeError("", message, "check the file and its permissions", kind="unreadable") from None
    return _tensors(file, text, data_bytes=size - _LENGTH.size - length)


def _tensors(file: Path, text: bytes, *, data_bytes: int) -> dict[str, TensorHeader]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(file, "its header is not JSON") from None
    if not isinstance(content, dict):
        raise _damaged(file, "its header is no JSON object")
    return {
        name: _tensor(file, name, row, data_bytes=data_bytes)
        for name, row in content.items()
        if name != "__metadata__"
    }


def _tensor(file: Path, name: str, row: Any, *, data_bytes: int) -> TensorHeader:  # noqa: ANN401 - from JSON
    facts = row if isinstance(row, dict) else {}
    dtype, shape, ends = facts.get("dtype"), _sizes(facts.get("shape")), _sizes(facts.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS or shape is None or ends is None:
        raise _damaged(file, f"its tensor {name[:80]!r} lacks a type, a shape or a place")
    if len(ends) != 2 or not ends[0] <= ends[1] <= data_bytes:  # noqa: PLR2004 - start and end
        raise _damaged(file, f"its tensor {name[:80]!r} does not lie inside the file")
    if math.prod(shape) * _BITS[dtype] != (ends[1] - ends[0]) * 8:
        raise _damaged(file, f"its tensor {name[:80]!r} has another size than its shape")
    return TensorHeader(dtype, shape, ends[1] - ends[0])


def _sizes(values: object) -> tuple[int, ...] | None:
    if isinstance(values, list) and all(type(value) is int and value >= 0 for value in values):
        return tuple(values)
    return None


def _damaged(file: Path, why: str) -> ShapeError:
    return ShapeError("", f"{file} is damaged: {why}", _AGAIN, kind="unreadable")
