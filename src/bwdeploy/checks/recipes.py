"""From a recipe file to checked recipes: load every build it stands for and apply every rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks import findings_of
from bwdeploy.checks.rule import subject_of
from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.load import LoadedRecipe, load_recipes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class CheckedRecipe(NamedTuple):
    """A recipe without errors, and what there is to say about it all the same."""

    loaded: LoadedRecipe
    findings: tuple[Finding, ...]
    """Warnings and remarks."""


def check_recipes(path: Path, *, overrides: Sequence[str] = ()) -> tuple[CheckedRecipe, ...]:
    """Load a recipe file and check every build it describes.

    Raises:
        RecipeError: there are errors; it carries all of them, and the warnings too.
    """
    recipes = tuple(_checked(loaded) for loaded in load_recipes(path, overrides=overrides))
    findings = all_findings(recipes)
    if any(finding.severity == "error" for finding in findings):
        raise RecipeError(findings)
    return recipes


def _checked(loaded: LoadedRecipe) -> CheckedRecipe:
    subject = subject_of(loaded.recipe)
    # What goes on from here has the layout that `layout.auto` was answered with.
    return CheckedRecipe(loaded._replace(recipe=subject.recipe), findings_of(loaded, subject))


def all_findings(recipes: Iterable[CheckedRecipe]) -> tuple[Finding, ...]:
    """Of all builds of one file, each once."""
    return tuple(dict.fromkeys(finding for recipe in recipes for finding in recipe.findings))
