"""Where an inflight_batcher_llm repository is, and what its model with the engine is called.

The models are looked at as text here; what they say is read in `sources.engine_repository`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.migration.files import peek

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = "config.pbtxt"
ENGINE_MODEL = "tensorrt_llm"
"""What the model with the engine is called, unless somebody renamed it."""
_ENGINE_DIR_PARAMETER = "gpt_model_path"
_BACKEND = re.compile(r"backend\s*:\s*\"tensorrtllm\"")


class Repository(NamedTuple):
    """A repository, and what its model with the engine is called."""

    path: Path
    engine_model: str

    def place(self, model: str) -> Path:
        """The directory of one of the five models."""
        return self.path / (self.engine_model if model == ENGINE_MODEL else model)


def repository_at(path: Path) -> Repository | None:
    """The repository that `path` is, or that the model or config.pbtxt at `path` belongs to."""
    if path.name == CONFIG and path.is_file():
        path = path.absolute().parent
    if _names_engine(path / CONFIG):
        path = path.absolute()
        return Repository(path.parent, path.name)
    if not path.is_dir():
        return None
    models = [path / ENGINE_MODEL, *sorted(file.parent for file in path.glob(f"*/{CONFIG}"))]
    found = next((model for model in models if _names_engine(model / CONFIG)), None)
    return None if found is None else Repository(path, found.name)


def _names_engine(config: Path) -> bool:
    """Whether a config.pbtxt is one of the C++ backend, whose name a template does not have yet."""
    text = peek(config) if config.is_file() else ""
    backend = config.parent.name == ENGINE_MODEL or _BACKEND.search(text) is not None
    return backend and _ENGINE_DIR_PARAMETER in text
