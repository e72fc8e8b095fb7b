"""The reference.py of an op in plugins/, imported from where it stands."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).parents[2] / "plugins"


def load_reference(op: str) -> Any:
    """The module plugins/`op`/reference.py."""
    spec = importlib.util.spec_from_file_location(f"reference_{op}", PLUGINS / op / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
