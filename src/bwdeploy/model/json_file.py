"""One JSON object from a file that nobody has checked: bounded in size, refused when it is anything else."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 4 * 2**20
"""The longest published config.json, with a quantization list of every expert, has 3 MB."""
_AGAIN = "copy it again from the model's publisher"


def read_json_object(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        ShapeError: unreadable, too large, or no JSON object.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ShapeError("", f"{path} is not a plain file", "name a model directory", kind="unreadable")
        if status.st_size > max_bytes:
            raise _too_large(path, status.st_size, max_bytes)
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{path} cannot be read: {reason}"
        raise ShapeError("", message, "check the file and its permissions", kind="unreadable") from None
    if len(text) > max_bytes:
        raise _too_large(path, len(text), max_bytes)
    return _parse(path, text)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except RecursionError:
        raise ShapeError("", f"{path} is nested too deeply", _AGAIN, kind="not-json") from None
    except ValueError as error:
        reason = "its text is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ShapeError("", f"{path} is not JSON: {reason}", _AGAIN, kind="not-json") from None
    if not isinstance(content, dict):
        raise ShapeError("", f"{path} holds no JSON object", _AGAIN, kind="not-json")
    return content


def _too_large(path: Path, size: int, limit: int) -> ShapeError:
    message = f"{path} has {size / 2**20:,.1f} MiB; no configuration is larger than {limit // 2**20} MiB"
    return ShapeError("", message, _AGAIN, kind="too-large")
