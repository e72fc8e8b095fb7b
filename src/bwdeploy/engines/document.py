"""Reads the config.json of an engine or a checkpoint, and says what is wrong with one that cannot be read.

Knows no meaning: `checkpoint` and `directory` take the keys apart with the functions here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import GateError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "config.json"
_MAX_BYTES = 64 * 2**20
"""A config.json with a list of quantized layers has a few megabytes at most."""


class EngineError(GateError):
    """An engine or a TensorRT-LLM checkpoint is not what it should be."""


def config_of(place: Path) -> Path:
    """The configuration file that `place` means: itself, or the one inside the directory."""
    return place / CONFIG if place.is_dir() else place


def read_config(place: Path) -> dict[str, Any]:
    """The content of a config.json.

    Raises:
        EngineError: there is none, it cannot be read, or it is not a JSON object.
    """
    file = config_of(place)
    hint = "name an engine directory, a checkpoint directory, or the config.json of one"
    if not file.is_file():
        what = f"{place} holds no {CONFIG}" if place.is_dir() else f"there is no file {file}"
        raise EngineError(what, hint=hint)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise EngineError(f"{file} has more than {_MAX_BYTES >> 20} MiB, no {CONFIG} has", hint=hint)
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineError(f"{file} cannot be read: {error.strerror}", hint="check its rights") from error
    except (ValueError, RecursionError) as error:
        raise EngineError(_not_json(file, error), hint="copy the file again; it may be cut off") from error
    if not isinstance(data, dict):
        raise EngineError(f"{file} holds no JSON object", hint=hint)
    return data


def _not_json(file: Path, error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}"
    return f"{file} is not JSON text"


def section(data: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The mapping at `name`; empty when it is missing or null.

    Raises:
        EngineError: something else stands there.
    """
    found = data.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(file, name, "a mapping")
    return found


def whole(data: dict[str, Any], name: str, file: Path, *, default: int | None = None) -> int | None:
    """The whole number of 0 or more at `name`, `default` when it is missing or null.

    Raises:
        EngineError: something else stands there.
    """
    found = data.get(name)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise _wrong(file, name, "a whole number of 0 or more")
    return found


def text(data: dict[str, Any], name: str, file: Path) -> str | None:
    """The text at `name`, None when it is missing, null or empty.

    Raises:
        EngineError: something else stands there.
    """
    found = data.get(name)
    if found is not None and not isinstance(found, str):
        raise _wrong(file, name, "text")
    return found or None


def _wrong(file: Path, name: str, expected: str) -> EngineError:
    return EngineError(
        f"{file}: {name} is not {expected}", hint="the file was changed or is of something else"
    )
