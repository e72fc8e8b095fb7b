"""Files that somebody else wrote: read up to a limit, and refused with file and reason when they are no text.

What the text means is not known here.
"""

from __future__ import annotations

import codecs
import stat
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.model.json_file import read_json_object
from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1_000_000
"""Of a script, a config.pbtxt or a YAML file; those in the wild have a few kB."""
RULE = "migrate-source"


def source_error(path: Path | None, message: str, hint: str, *, line: int = 0) -> RecipeError:
    """The error for a deployment that cannot be read."""
    name = "" if path is None else str(path).replace("\x00", "\\0")
    return RecipeError(
        (Finding(rule=RULE, severity="error", path="", message=message, hint=hint, file=name, line=line),)
    )


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        RecipeError: it cannot be read, is larger than a megabyte, or is not UTF-8 text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise source_error(path, "this is not a plain file", "name the file or directory of a deployment")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise source_error(path, f"cannot be read: {reason}", "check the path and its permissions") from None
    if len(raw) > MAX_BYTES:
        raise source_error(
            path,
            f"the file is larger than {MAX_BYTES} bytes",
            "a configuration has a few kB; is it the right one",
        )
    try:
        text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8 text: byte 0x{raw[error.start]:02x} on line {line}"
        raise source_error(
            path, message, "name a configuration, not an engine or weights", line=line
        ) from None
    if "\x00" in text:
        raise source_error(path, "the file holds NUL bytes", "name a configuration, not an engine or weights")
    return text


def peek(path: Path) -> str:
    """As `read_text`, but an empty string for what cannot be read: for telling formats apart."""
    try:
        return read_text(path)
    except RecipeError:
        return ""


def peek_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty for anything else: for telling formats apart."""
    try:
        return read_json_object(path)
    except ShapeError:
        return {}


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        RecipeError: it cannot be read or holds something else.
    """
    try:
        return read_json_object(path)
    except ShapeError as error:
        raise source_error(path, error.problem.message, error.problem.hint) from None
