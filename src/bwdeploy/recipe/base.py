"""`base:`: a recipe built on another one, deep-merged, the later file winning.

A base must lie in the directory of the recipe that was asked for or below it, links followed, so that a
stranger's recipe can name no file outside its own folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bwdeploy.errors import RecipeError
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.findings import finding_at
from bwdeploy.recipe.layers import Layer, merge
from bwdeploy.recipe.shorthand import with_words_written_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.errors import Finding
    from bwdeploy.recipe.document import Document

MAX_BASES = 10


def with_bases(file: Path, document: Document) -> tuple[Layer, tuple[Path, ...]]:
    """The recipe in `file` over its chain of bases, and all files read, the recipe's own first.

    Raises:
        RecipeError: a base is missing, outside the recipe's directory, part of a cycle, or not a recipe.
    """
    layers = [_as_layer(document)]
    files = [file]
    while (base := _next_base(files, layers[-1])) is not None:
        files.append(base)
        layers.append(_as_layer(read_document(base)))
    merged = layers[-1]
    for layer in reversed(layers[:-1]):
        merged = merge(merged, layer)
    merged.data.pop("base", None)
    return merged, tuple(files)


def _as_layer(document: Document) -> Layer:
    if not isinstance(document.data, dict):
        place = document.places.of_value(())
        message = f"a recipe is a mapping (key: value), this is {_kind(document.data)}"
        hint = "start with `schema: 1`"
        raise RecipeError((finding_at(place, rule="recipe-wrong-type", path="", message=message, hint=hint),))
    return with_words_written_out(Layer(document.data, document.places))


def _kind(data: object) -> str:
    return "a list" if isinstance(data, list) else "empty" if data is None else "a single value"


def _next_base(files: list[Path], layer: Layer) -> Path | None:
    if "base" not in layer.data:
        return None
    name = layer.data["base"]

    def problem(message: str, hint: str) -> RecipeError:
        return RecipeError((_finding(layer, message, hint),))

    if not isinstance(name, str) or not name:
        raise problem("expected the path of one recipe file", "write base: other.yaml")
    root = files[0].parent.resolve()
    try:
        base = (files[-1].parent / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise problem(f"{name!r} is not a usable path: {error}", "write base: other.yaml") from None
    if name.startswith(("/", "~")) or not base.is_relative_to(root):
        raise problem(
            f"{name!r} lies outside the recipe's own directory", f"copy it to {files[0].parent} or below"
        )
    seen = [file.resolve() for file in files]
    if base in seen:
        chain = " → ".join(file.name for file in (*files[seen.index(base) :], base))
        raise problem(f"the bases form a circle: {chain}", "remove one of these base: lines")
    if len(files) > MAX_BASES:
        raise problem(f"more than {MAX_BASES} bases on top of each other", "flatten some of them")
    _must_be_file(base, name, problem)
    # Messages name it as the recipe does; that it lies where it may is known of the resolved path.
    return Path(os.path.normpath(files[-1].parent / name))


def _must_be_file(base: Path, name: str, problem: Callable[[str, str], RecipeError]) -> None:
    try:
        is_file = base.is_file()
    except (OSError, ValueError) as error:
        raise problem(f"{name!r} is not a usable path: {error}", "write base: other.yaml") from None
    if not is_file:
        raise problem(
            f"there is no file {name!r} beside this recipe",
            "check the path; it starts at this file's directory",
        )


def _finding(layer: Layer, message: str, hint: str) -> Finding:
    place = layer.places.of_value(("base",))
    return finding_at(place, rule="recipe-base", path="base", message=message, hint=hint)
