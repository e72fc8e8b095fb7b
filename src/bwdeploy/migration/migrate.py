"""An existing deployment → a whole recipe: read, moved to the backend that is wanted, with a model and a GPU.

What a recipe cannot do without is asked for here; whether the recipe is right is said by `check`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from bwdeploy.facts.gpus import all_gpus, find_gpu
from bwdeploy.migration.files import source_error
from bwdeploy.migration.sources import read_source
from bwdeploy.migration.sources.build_command import read_command
from bwdeploy.migration.to_engines import to_engines
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.migration.found import Found, Wanted

_SHOWN = 6
"""Candidates that a hint names."""


def migrate_path(path: Path, wanted: Wanted, *, gpu: str | None = None) -> Found:
    """The deployment at `path` as a recipe.

    Raises:
        RecipeError: it cannot be read, or does not say which model it was made from.
    """
    return _whole(read_source(path, wanted), wanted, gpu=gpu, path=path)


def migrate_command(text: str, wanted: Wanted, *, gpu: str | None = None) -> Found:
    """A trtllm-build command line as a recipe.

    Raises:
        RecipeError: it is none, or the model is not given.
    """
    return _whole(read_command(text, wanted), wanted, gpu=gpu, path=None)


def _whole(found: Found, wanted: Wanted, *, gpu: str | None, path: Path | None) -> Found:
    if found.needs_model:
        raise source_error(path, *_model_wanted(found))
    if wanted.backend == "tensorrt" and found.recipe.get("engine", {}).get("backend") != "tensorrt":
        found = to_engines(found, wanted)
    return found if gpu is None else _on_gpu(found, gpu)


def _model_wanted(found: Found) -> tuple[str, str]:
    message = f"this {found.kind} does not say which model it was made from"
    way = "add --model hf://org/name@REVISION, or --model DIR for a model on this machine"
    if not found.candidates:
        return message, way
    names = ", ".join(found.candidates[:_SHOWN])
    more = f" and {len(found.candidates) - _SHOWN} more" if len(found.candidates) > _SHOWN else ""
    return message, f"{way}; exactly this shape have {names}{more}, and models trained from them"


def _on_gpu(found: Found, gpu: str) -> Found:
    if find_gpu(gpu) is None:
        known = [one.id for one in all_gpus()]
        near = nearest(gpu, known)
        hint = f"did you mean {near}" if near else f"known: {', '.join(known)}"
        raise source_error(None, f"--gpu: {gpu!r} is not known", hint)
    recipe = copy.deepcopy(found.recipe)
    recipe["layout"] = {"gpu": gpu} | {k: v for k, v in recipe.get("layout", {}).items() if k != "gpu"}
    return found._replace(recipe=recipe, comments={**found.comments, ("layout", "gpu"): "given by --gpu"})
