"""Which model a deployment was made from: as the user says, as the deployment says, or by its exact shape."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bwdeploy.facts.model_configs import bundled_ids, bundled_model
from bwdeploy.recipe.uris import FILE_SCHEME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.migration.deployment import WeightsClue
    from bwdeploy.migration.draft import RecipeDraft
    from bwdeploy.migration.found import Wanted

_HUB_ID = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SHAPE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
)
MAIN = "main"
"""What a deployment without a revision follows."""


def given_source(model: str) -> str:
    """`--model` as a recipe can hold it: a path, with or without file://, starts at the current directory."""
    scheme, separator, rest = model.partition("://")
    if not separator:
        return FILE_SCHEME + os.path.normpath(Path.cwd() / model)
    return FILE_SCHEME + os.path.normpath(Path.cwd() / rest) if scheme == "file" and rest else model


def put_model(draft: RecipeDraft, clue: WeightsClue, wanted: Wanted) -> str:
    """Write `model.source`, as the user says or else as the deployment does; empty when neither does.

    A name that no recipe can hold counts as none.
    """
    source = given_source(wanted.model) if wanted.model else clue.source
    if source.isprintable() and source:
        draft.put(("model", "source"), source, "given by --model" if wanted.model else clue.comment)
        return source
    return ""


def source_of_place(text: str, *, start: Path | None) -> str:
    """The model source that a `--model_dir` or `tokenizer_dir` stands for; empty when that cannot be told.

    A directory of this machine counts when it holds a whole model: a configuration and weights.
    """
    place = _here(text, start)
    if place is not None:
        return FILE_SCHEME + os.path.normpath(place.absolute()) if is_whole_model(place) else ""
    return f"hf://{text}@{MAIN}" if _HUB_ID.fullmatch(text) else ""


def is_whole_model(directory: Path) -> bool:
    """Whether a directory holds a Hugging Face model, weights too."""
    try:
        return (directory / "config.json").is_file() and any(directory.glob("*.safetensors"))
    except OSError:
        return False


def hub_models_of(shape: Mapping[str, Any]) -> tuple[str, ...]:
    """Hub models that come with bwdeploy and have exactly this shape."""
    known = {key: shape[key] for key in _SHAPE if isinstance(shape.get(key), int)}
    if len(known) < len(_SHAPE) - 1:
        return ()
    return tuple(name for name in bundled_ids() if _fits(name, known))


def _fits(name: str, known: Mapping[str, int]) -> bool:
    found = bundled_model(name)
    if found is None or found.quantization is not None:
        return False
    text = found.config.get("text_config", found.config)
    return isinstance(text, dict) and all(text.get(key) == value for key, value in known.items())


def _here(text: str, start: Path | None) -> Path | None:
    try:
        place = (start or Path.cwd()) / Path(text).expanduser()
        return place if place.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # a name that cannot exist, or no home directory
        return None
