"""Whether a GGUF file is whole, before a library is given it: its header, and the end of its last tensor.

Says what is wrong with a file that is truncated, damaged or no GGUF at all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bwdeploy.errors import ToolError
from bwdeploy.model.gguf_header import GgufError, GgufHeader, GgufTensor, damaged, parse_header

if TYPE_CHECKING:
    from pathlib import Path

_DEFAULT_ALIGNMENT = 32


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of `path`.

    Raises:
        ToolError: the file is no GGUF file, of an unknown version, damaged, or ends before its last tensor.
    """
    try:
        header = parse_header(path)
        _require_whole(path, header)
    except GgufError as error:
        raise ToolError(error.message, hint=error.hint) from error
    scalars = {name: value for name, value in header.metadata.items() if name not in header.arrays}
    return header._replace(metadata=scalars)


def _require_whole(path: Path, header: GgufHeader) -> None:
    try:
        end = max((_tensor_end(tensor) for tensor in header.tensors), default=0)
        alignment = int(header.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)) or _DEFAULT_ALIGNMENT
        wanted = math.ceil(header.end / alignment) * alignment + end
    except (KeyError, OverflowError, ValueError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error
    if wanted > header.file_bytes:
        raise damaged(path, f"it has {header.file_bytes} bytes, but its tensors end at byte {wanted}")


def _tensor_end(tensor: GgufTensor) -> int:
    """End of one tensor's data, relative to the start of all tensor data."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: PLC0415 - worker only

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    except ValueError as error:
        raise KeyError(f"tensor type {tensor.kind}") from error
    return int(tensor.offset + math.prod(tensor.dimensions) // block * size)
