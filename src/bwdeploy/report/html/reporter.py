"""The report as the page of an output, of one that was built before, and of a build that was stopped."""

from __future__ import annotations

import json
import logging
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bwdeploy.build import plan_recipe
from bwdeploy.errors import GateError, StoreError
from bwdeploy.pipeline.host import probe_host
from bwdeploy.pipeline.output import MANIFEST, manifest_of, read_manifest
from bwdeploy.pipeline.run import StageResult
from bwdeploy.recipe.schema import Recipe
from bwdeploy.report.html.canvas import can_draw
from bwdeploy.report.html.page import html_report
from bwdeploy.report.html.reading import read_build
from bwdeploy.stages import STAGES, placed_in_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bwdeploy.pipeline.jobs import Device
    from bwdeploy.pipeline.plan import Plan
    from bwdeploy.pipeline.store import Store
    from bwdeploy.recipe.load import LoadedRecipe

PAGE = "report/index.html"

_LOG = logging.getLogger(__name__)


class HtmlReporter:
    """The `Reporter` of builds."""

    @property
    def made_with(self) -> str:
        """See `Reporter.made_with`."""
        return f"matplotlib {metadata.version('matplotlib')}" if can_draw() else "no pictures"

    def pages(self, manifest: Mapping[str, Any], made: Mapping[str, Path]) -> Mapping[str, str]:
        """See `Reporter.pages`; a bug here must not keep hours of work from being published."""
        try:
            return {PAGE: html_report(read_build(manifest, made, _recipe(manifest)))}
        except Exception:  # noqa: BLE001 - see above; it is told with its traceback
            _LOG.exception(
                "The report could not be made, the output is whole without it. Please report this:"
            )
            return {}


def report_of_output(out: Path, store: Store) -> str:
    """The page of an output that was built before, from the store as far as it still has the artifacts.

    Raises:
        StoreError: no output of bwdeploy, or its manifest is not understood.
    """
    out = out.absolute()
    manifest = read_manifest(out)
    try:
        recipe = _recipe(manifest)
        placed = {name: out / place for name, place in placed_in_output(recipe).items()}
        kept = {entry["name"]: store.find(entry["name"], entry["key"]) for entry in manifest["stages"]}
        stored = {name: artifact.directory for name, artifact in kept.items() if artifact is not None}
        data = read_build(manifest, placed | stored, recipe)
    except (KeyError, TypeError, ValidationError) as error:
        raise StoreError(
            f"{out / MANIFEST} is damaged or of another version of bwdeploy ({error!r:.200})",
            hint="Build the recipe again",
        ) from error
    return html_report(data)


def report_of_recipe(loaded: LoadedRecipe, store: Store, *, device: Device | None = None) -> str:
    """The page of what the store has of a recipe, above all of a build that a gate stopped.

    Raises:
        HostError, StoreError: as `plan_recipe`; StoreError also when the store has nothing of it.
    """
    recipe = loaded.recipe
    results = _finished(plan_recipe(loaded, store=store, device=device))
    if not results:
        raise StoreError(
            f"nothing of {recipe.name} is in the store", hint="Build it first: `bwdeploy build RECIPE`"
        )
    made = {result.name: result.artifact.directory for result in results}
    manifest = manifest_of(recipe, loaded.text, probe_host(device=device), results, {})
    return html_report(read_build(manifest, made, recipe, refusals=tuple(_refusals(recipe, made))))


def _finished(plan: Plan) -> list[StageResult]:
    return [
        StageResult(name=one.name, key=one.key, status="cached", seconds=0.0, artifact=one.artifact)
        for one in plan.stages
        if one.artifact is not None
    ]


def _refusals(recipe: Recipe, made: Mapping[str, Path]) -> Iterator[str]:
    """Why stages would stop the build: each judges itself, as in a build."""
    for stage in STAGES:
        if stage.name in made:
            try:
                stage.judge(recipe, made[stage.name])
            except GateError as error:
                yield error.message


def _recipe(manifest: Mapping[str, Any]) -> Recipe:
    return Recipe.model_validate_json(json.dumps(manifest["recipe"]))
