"""Readers of existing deployments, in the order in which they are asked; the first that knows SRC reads it.

Each module has `recognizes(path) -> bool`, which never raises, and `read(path, wanted) -> Found`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from bwdeploy.migration.files import read_object, read_text, source_error
from bwdeploy.recipe.document import parse_document

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.migration.found import Found, Wanted


class SourceReader(Protocol):
    """What a module of this package offers."""

    def recognizes(self, path: Path) -> bool:
        """Whether `path` is of the kind that this reads."""

    def read(self, path: Path, wanted: Wanted) -> Found:
        """The deployment at `path` as a recipe.

        Raises:
            RecipeError: it cannot be used.
        """


SOURCES: dict[str, str] = {
    "engine": "an engine directory, or its config.json",
    "rank_checkpoint": "a TensorRT-LLM checkpoint, or its config.json",
    "quantized_checkpoint": "a checkpoint with hf_quant_config.json, or that file",
    "engine_repository": "an inflight_batcher_llm model repository",
    "llmapi_repository": "an llmapi model repository",
    "truss": "a Truss config.yaml with trt_llm",
    "build_command": "a script with a trtllm-build command line",
    "llm_args_yaml": "a YAML file of LLM API arguments (trtllm-serve --config)",
}
"""Module → what it reads."""


def read_source(path: Path, wanted: Wanted) -> Found:
    """The deployment at `path`, read by the first module that recognizes it.

    Raises:
        RecipeError: nothing is there, nobody recognizes it, or it cannot be used.
    """
    if not path.exists():
        raise source_error(path, "there is no such file or directory", "check the path")
    for name in SOURCES:
        reader = cast("SourceReader", import_module(f"{__name__}.{name}"))
        if reader.recognizes(path):
            return reader.read(path, wanted)
    _require_readable(path)
    known = "; ".join(SOURCES.values())
    raise source_error(path, "this is no deployment that can be migrated", f"what is recognized: {known}")


def _require_readable(path: Path) -> None:
    """Say why a configuration that nobody recognized cannot be read at all, when that is so.

    Raises:
        RecipeError: it is broken.
    """
    file = path / "config.json" if path.is_dir() else path
    if file.suffix == ".json" and file.is_file():
        read_object(file)
    elif path.suffix in {".yaml", ".yml"}:
        parse_document(read_text(path), file=str(path))
    elif not path.is_dir():
        read_text(path)
