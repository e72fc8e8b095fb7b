"""A recipe file to the builds it stands for: YAML, `base:`, `--set`, `matrix:`, validation.

The order is the order of precedence, later wins. What is wrong is reported all at once, as findings with
file, line and column. Whether the parts of a recipe fit each other is not decided here (see `checks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.base import with_bases
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.findings import finding_at, in_reading_order
from bwdeploy.recipe.overrides import apply_overrides, parse_overrides
from bwdeploy.recipe.places import dotted
from bwdeploy.recipe.uris import resolve_file_uris
from bwdeploy.recipe.validate import validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bwdeploy.errors import Severity
    from bwdeploy.recipe.layers import Layer
    from bwdeploy.recipe.overrides import Override
    from bwdeploy.recipe.places import KeyPath, Places
    from bwdeploy.recipe.schema import Recipe


class LoadedRecipe(NamedTuple):
    """One build, with what is needed to talk about its recipe."""

    recipe: Recipe
    text: str
    """The YAML source of `file`, as it was read."""
    file: Path
    """The recipe that was asked for."""
    files: tuple[Path, ...]
    """`file` and its bases, nearest first."""
    data: dict[str, Any]
    """The recipe as plain data after base, overrides and matrix; without defaults."""
    places: Places

    def finding(
        self, *, rule: str, path: KeyPath, message: str, hint: str, severity: Severity, source: str
    ) -> Finding:
        """A finding about this recipe, with the place of `path` filled in."""
        return finding_at(
            self.places.of_value(path), rule=rule, path=dotted(path), message=message, hint=hint,
            severity=severity, source=source,
        )  # fmt: skip


def load_recipes(path: Path, *, overrides: Sequence[str] = ()) -> tuple[LoadedRecipe, ...]:
    """The builds that the recipe file at `path` stands for: one, or several when it has a matrix.

    `overrides` are `a.b=value` texts, as given to `--set`.

    Raises:
        RecipeError: with every problem found.
    """
    parsed = parse_overrides(overrides)
    document = read_document(path)
    layer, files = with_bases(path, document)
    layer = apply_overrides(layer, parsed)
    later = [override for override in parsed if override.path != ("name",)]
    loaded: list[LoadedRecipe] = []
    findings: list[Finding] = []
    for build in _builds(layer, parsed):
        # Again, since a value of the matrix may have covered an override.
        final = apply_overrides(build, later).copied()
        resolve_file_uris(final)
        try:
            recipe = validate(final.data, final.places)
        except RecipeError as error:
            findings.extend(error.findings)
            continue
        loaded.append(
            LoadedRecipe(
                recipe=recipe,
                text=document.text,
                file=path,
                files=files,
                data=final.data,
                places=final.places,
            )
        )
    if findings:
        raise RecipeError(in_reading_order(findings))
    return tuple(loaded)


def _builds(layer: Layer, overrides: Sequence[Override]) -> Sequence[Layer]:
    if "matrix" not in layer.data:
        return (layer,)
    from bwdeploy.recipe.matrix import expand  # noqa: PLC0415 - few recipes have one

    return expand(layer, overrides)
