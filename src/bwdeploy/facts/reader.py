"""Reads the data files of this package; each is read once."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

# Not importlib.resources: it costs 10 ms of imports, and the package is never run from a zip file.
_DATA = Path(__file__).with_name("data")


@cache
def read_data(name: str) -> Any:  # noqa: ANN401 - each caller turns it into its own types
    """The parsed content of `facts/data/<name>`; callers must not change it."""
    return json.loads((_DATA / name).read_text(encoding="utf-8"))
