"""One of the two things that are compared: the only build of a recipe file, or the output of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.difference.values import value_changes
from bwdeploy.errors import Finding, RecipeError, StoreError
from bwdeploy.pipeline.output import MANIFEST, read_manifest
from bwdeploy.recipe.load import LoadedRecipe, load_recipes
from bwdeploy.recipe.places import Place, Places
from bwdeploy.recipe.validate import validate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Side(NamedTuple):
    """One of the two things that are compared."""

    place: Path
    """The recipe file or the output directory."""
    loaded: LoadedRecipe
    manifest: Mapping[str, Any] | None
    """Of an output directory."""


def open_side(place: Path, *, overrides: Sequence[str] = ()) -> Side:
    """The build that `place` (a recipe file or an output directory) stands for.

    Raises:
        RecipeError: the recipe is wrong or stands for several builds, or `overrides` are meant for an output.
        StoreError: the directory is not an output, or one that this version cannot read.
    """
    if place.is_dir():
        if overrides:
            raise _command_line(f"{place} is a build: --set changes recipes only", "Name its recipe file")
        manifest = read_manifest(place)
        return Side(place, _recorded_recipe(place, manifest), manifest)
    builds = load_recipes(place, overrides=overrides)
    if len(builds) > 1:
        raise _several_builds(place, builds)
    return Side(place, builds[0], None)


def _recorded_recipe(place: Path, manifest: Mapping[str, Any]) -> LoadedRecipe:
    file, data = place / MANIFEST, manifest.get("recipe")
    places = Places({}, {(): Place(file=str(file))})
    if not isinstance(data, dict):
        raise StoreError(f"{file} records no recipe", hint="Build the recipe again")
    try:
        recipe = validate(data, places)
    except RecipeError as error:
        message = f"the recipe in {file} is not one of this version: {error.findings[0].message}"
        raise StoreError(
            message, hint="Build it again with this version, or compare the recipe files"
        ) from None
    text = str(manifest.get("recipe_text", ""))
    return LoadedRecipe(recipe=recipe, text=text, file=file, files=(file,), data=data, places=places)


def _several_builds(place: Path, builds: Sequence[LoadedRecipe]) -> RecipeError:
    names = ", ".join(build.recipe.name for build in builds)
    axis = next(value_changes(builds[0], builds[-1]))
    message = f"{place} stands for {len(builds)} builds: {names}"
    return _command_line(message, f"Keep one, for example --set {'.'.join(axis.path)}={axis.a}")


def _command_line(message: str, hint: str) -> RecipeError:
    finding = Finding(rule="command-line", severity="error", path="", message=message, hint=hint)
    return RecipeError((finding,))
