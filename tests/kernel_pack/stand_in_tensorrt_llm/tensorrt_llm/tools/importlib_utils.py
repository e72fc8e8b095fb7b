"""As tensorrt_llm/tools/importlib_utils.py, for trtllm-serve --custom_module_dirs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_custom_module_from_dir(custom_module_path: str | Path) -> ModuleType:
    path = Path(custom_module_path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.name)
