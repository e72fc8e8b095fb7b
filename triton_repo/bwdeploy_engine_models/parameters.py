"""The parameters of a model's config.pbtxt; an empty value and an unfilled `${key}` count as unset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bwdeploy_engine_models.errors import SettingError

_TRUE, _FALSE = ("true", "1", "t", "y", "yes"), ("false", "0", "f", "n", "no")


class Parameters:
    """What Triton hands to `initialize`, read by type."""

    def __init__(self, args: dict[str, str]) -> None:
        self.config: dict[str, Any] = json.loads(args["model_config"])
        self.directory = Path(args["model_repository"], args["model_version"])
        """Where model.py lies."""

    def text(self, name: str) -> str:
        """The value, empty when it is unset."""
        value = str(self.config.get("parameters", {}).get(name, {}).get("string_value", ""))
        return "" if "${" in value else value.strip()

    def switch(self, name: str, *, default: bool) -> bool:
        """A value of true or false.

        Raises:
            SettingError: it is neither.
        """
        value = self.text(name).lower()
        if value and value not in (*_TRUE, *_FALSE):
            raise SettingError(f"parameter {name} is {value!r}, neither true nor false.")
        return value in _TRUE if value else default

    def whole(self, name: str) -> int | None:
        """A whole number of 1 or more, None when it is unset.

        Raises:
            SettingError: it is something else.
        """
        value = self.text(name)
        if not value:
            return None
        if not value.isdecimal() or int(value) < 1:
            raise SettingError(f"parameter {name} is {value!r}, not a whole number of 1 or more.")
        return int(value)

    def folder(self, name: str) -> Path:
        """A directory; a relative one lies beside model.py, so that a repository may be moved.

        Raises:
            SettingError: it is unset, or not there.
        """
        value = self.text(name)
        if not value:
            raise SettingError(f"parameter {name} is not set.")
        folder = self.directory / value
        if not folder.is_dir():
            raise SettingError(f"parameter {name} names {folder}, which is no directory here.")
        return folder
