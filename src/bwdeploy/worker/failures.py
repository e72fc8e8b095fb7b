"""From an exception inside the worker to the one clear error that the build shows.

The kinds are those of `errors.py` (recipe, host, tool, store). Whatever is not recognized is a tool failure
that names the exception; its traceback is in the log.
"""

from __future__ import annotations

import errno
from typing import Any

from bwdeploy.errors import BwdeployError, Finding, HostError, RecipeError, StoreError, ToolError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_KINDS: tuple[tuple[type[BwdeployError], str], ...] = (
    (RecipeError, "recipe"),
    (HostError, "host"),
    (StoreError, "store"),
)


def recipe_error(path: str, message: str, *, hint: str = "") -> RecipeError:
    """A value of the recipe that only the worker could find to be wrong."""
    finding = Finding(rule="worker", severity="error", path=path, message=message, hint=hint)
    return RecipeError((finding,))


def describe_failure(error: BaseException) -> dict[str, Any]:
    """The `error` object of a result file."""
    known = _as_bwdeploy_error(error)
    if known is None:
        message = f"{type(error).__name__}: {_first_line(error)}"
        return {"kind": "tool", "message": message, "hint": "The log has the traceback."}
    kind = next((word for kind, word in _KINDS if isinstance(known, kind)), "tool")
    described: dict[str, Any] = {"kind": kind, "message": known.message, "hint": known.hint}
    if isinstance(known, RecipeError):
        described["findings"] = [finding._asdict() for finding in known.findings]
    if isinstance(known, ToolError):
        described["last_lines"] = list(known.last_lines)
    return described


def _as_bwdeploy_error(error: BaseException) -> BwdeployError | None:
    if isinstance(error, BwdeployError):
        return error
    if _is_out_of_memory(error):
        return HostError(
            f"Out of memory: {_first_line(error)}.",
            hint="Lower quantize.calibration.batch_size or seq_len, or use a machine with more memory.",
        )
    if isinstance(error, ModuleNotFoundError):
        return HostError(
            f"Python package {error.name!r} is missing in the worker's environment.",
            hint="Install the packages for models: pip install 'bwdeploy[models]'.",
        )
    # safetensors reports I/O errors as its own exception, with the errno only in the text.
    if isinstance(error, OSError) or "No space left on device" in str(error):
        return _file_error(error)
    return None


def _file_error(error: BaseException) -> BwdeployError | None:
    name = getattr(error, "filename", None)
    if getattr(error, "errno", errno.ENOSPC) in _NO_SPACE:
        return StoreError(
            f"The disk is full: {name or 'while writing'}.",
            hint="Free space, or move the store to a larger disk; finished stages are kept.",
        )
    if isinstance(error, PermissionError) and name:
        return StoreError(f"{name} may not be read or written.", hint="Check its owner and mode.")
    if isinstance(error, FileNotFoundError) and name:
        return ToolError(f"{name} does not exist.", hint="Was it removed during the build?")
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # torch's CPU allocator raises a plain RuntimeError.
    words = ("can't allocate memory", "CUDA out of memory", "not enough memory")
    return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in words)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")
