"""Whether a directory is a whole Hugging Face model, as far as its files show without reading a weight.

A download that broke off or a file that is not what its name says is found here, before anything expensive.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bwdeploy.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format itself."""


def require_whole_model(directory: Path) -> None:
    """Look at configuration, tokenizer and the headers of all weight files.

    Raises:
        ToolError: a file is missing, cut short or not of its format.
    """
    _require_object(directory / "config.json", "Name a Hugging Face model directory, or a .gguf file")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise ToolError(
            "the source has no .safetensors file",
            hint="Pickled weights (.bin, .pt) can run code when they are read and are not taken:"
            " convert the model to safetensors first",
        )
    for path in weights:
        _require_whole_weights(path)
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise ToolError(
            f"the source has no tokenizer ({', '.join(_TOKENIZERS)})",
            hint="Copy the tokenizer files of the model into the directory",
        )


def _require_object(path: Path, hint: str) -> None:
    if not path.is_file():
        raise ToolError(f"the source has no {path.name}", hint=hint)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ToolError(
            f"{path.name} of the source is not JSON: {error}", hint="Get the file again"
        ) from error
    if not isinstance(value, dict):
        raise ToolError(f"{path.name} of the source is not a JSON object", hint="Get the file again")


def _require_whole_weights(path: Path) -> None:
    """The header names the bytes of each tensor; together they must be the file.

    Format: https://huggingface.co/docs/safetensors (8 bytes of length, JSON header, tensor bytes).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise _damaged(path, "its header is cut short, or it is not a safetensors file")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = _LENGTH_BYTES + length + max(ends, default=0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise _damaged(path, "its header is not readable") from error
    if size != expected:
        raise _damaged(path, f"it has {size} bytes, its header describes {expected}")


def _damaged(path: Path, reason: str) -> ToolError:
    return ToolError(
        f"{path.name} of the source is not a whole safetensors file: {reason}",
        hint="Get the file again; a download may have broken off",
    )
