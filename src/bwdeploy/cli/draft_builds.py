"""What the verbs about drafts build: a recipe, or what an output was built from, up to its draft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bwdeploy.cli.output import tell
from bwdeploy.errors import GateError, StoreError, argument_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bwdeploy.pipeline.jobs import Executor
    from bwdeploy.pipeline.training_jobs import DraftTrainingResult
    from bwdeploy.recipe.load import LoadedRecipe
    from bwdeploy.recipe.schema import Recipe
    from bwdeploy.report.draft_sweep import SweptDraft

_BUILTIN_PROMPTS = "builtin://workloads"
_MEASURED = "speculative.measure={}"
"""The override that lets a build measure its draft; what the recipe says of the measurement stays."""
_NAME_ROOM = 80
"""Of the 100 characters that a name may have."""


def measuring(prompts: str | None, overrides: Sequence[str]) -> list[str]:
    """The overrides of a build that measures its draft, on `prompts` (`builtin` or a file) if they are given.

    Raises:
        RecipeError: there is no such file.
    """
    if prompts is None:
        return [_MEASURED, *overrides]
    if prompts in {"builtin", _BUILTIN_PROMPTS}:
        return [_MEASURED, *overrides, f"speculative.measure.prompts={_BUILTIN_PROMPTS}"]
    file = Path(prompts.removeprefix("file://"))
    if not file.is_file():
        raise argument_error(f"--prompts: there is no file {file}", "Name a .jsonl file, or builtin")
    return [_MEASURED, *overrides, f"speculative.measure.prompts=file://{file.absolute()}"]


def named(name: str, variant: str) -> str:
    """The override that sets a variant apart from its recipe: the store keeps the newest of each name."""
    return f"name={name[:_NAME_ROOM]}-{variant}"


def opened(place: Path, overrides: Sequence[str]) -> LoadedRecipe:
    """The only build of a recipe file, checked, or the recipe that an output directory was built from.

    Raises:
        RecipeError: the recipe is wrong or stands for several builds.
        StoreError: a directory that is not an output.
    """
    from bwdeploy.checks.recipes import all_findings, check_recipes

    if place.is_dir():
        return _recorded(place, overrides)
    checked = check_recipes(place, overrides=overrides)
    _require_one(place, len(checked))
    tell(all_findings(checked))
    return checked[0].loaded


def _without_nothing(section: object) -> object:
    """A recorded section without keys that say nothing: a part that is None could not be set key by key."""
    if not isinstance(section, dict):
        return section
    return {key: value for key, value in section.items() if value is not None}


def require_drafts(place: Path, overrides: Sequence[str]) -> str:
    """The build's name; one that drafts nothing is refused before an override gives it half a section.

    Raises:
        RecipeError, StoreError: as `opened`, or there is no such section.
    """
    from bwdeploy.recipe.load import load_recipes

    builds = (_recorded(place, overrides),) if place.is_dir() else load_recipes(place, overrides=overrides)
    _require_one(place, len(builds))
    if builds[0].recipe.speculative is None:
        raise argument_error(f"{place} drafts nothing", "Add a section speculative, or name another recipe")
    return builds[0].recipe.name


def _require_one(place: Path, builds: int) -> None:
    if builds > 1:
        raise argument_error(
            f"{place} stands for {builds} builds", "Keep one with --set, or name its output directory"
        )


def _recorded(place: Path, overrides: Sequence[str]) -> LoadedRecipe:
    from bwdeploy.difference.sides import open_side
    from bwdeploy.recipe.layers import Layer
    from bwdeploy.recipe.overrides import apply_overrides, parse_overrides
    from bwdeploy.recipe.uris import resolve_file_uris
    from bwdeploy.recipe.validate import validate

    recorded = open_side(place).loaded
    sections = {name: _without_nothing(section) for name, section in recorded.data.items()}
    changed = apply_overrides(Layer(sections, recorded.places), parse_overrides(overrides)).copied()
    resolve_file_uris(changed)
    recipe = validate(changed.data, changed.places)
    return recorded._replace(recipe=recipe, data=changed.data, places=changed.places)


def require_measured(loaded: LoadedRecipe, place: Path) -> None:
    """Refuse what has no draft that could be run, and prompts that it could not be run on.

    The stages before the measurement may train for hours.

    Raises:
        RecipeError: the recipe drafts by a method that is not measured; its prompts are in another format or
            too few.
    """
    from bwdeploy.stages.acceptance import measures

    section = loaded.recipe.speculative
    if section is None or not measures(loaded.recipe):
        raise argument_error(
            f"{place} has no draft that can be measured: method {section.method if section else 'none'}"
            f" on backend {loaded.recipe.engine.backend}",
            "EAGLE3 drafts (speculative.draft or speculative.train) and MTP are measured, on backend pytorch",
        )
    require_prompts(loaded.recipe)


def require_prompts(recipe: Recipe) -> None:
    """Refuse prompts that a build could not measure its draft on, before it trains that draft.

    Raises:
        RecipeError: they are in another format or too few.
    """
    from bwdeploy.recipe.schema import DraftMeasurement
    from bwdeploy.stages.acceptance import measures
    from bwdeploy.worker.drafts.workloads import read_prompts

    section = recipe.speculative
    if section is not None and measures(recipe):
        read_prompts(section.measure or DraftMeasurement())


def require_trained(loaded: LoadedRecipe, place: Path) -> None:
    """Refuse a recipe that trains no draft.

    Raises:
        RecipeError: there is no section speculative.train, or no backend that its draft would run on.
    """
    from bwdeploy.stages.draft import makes_draft

    section = loaded.recipe.speculative
    if section is None or section.train is None or not makes_draft(loaded.recipe):
        raise argument_error(
            f"{place} trains no draft",
            "Write speculative: {method: eagle3, train: {}}, on backend pytorch",
        )


def built_until(loaded: LoadedRecipe, stage: str, executor: Executor) -> Mapping[str, Path]:
    """Build up to `stage`, which the recipe must have; stage → directory of its artifact in the store."""
    from bwdeploy.build import build_recipe, open_store
    from bwdeploy.report.build_progress import build_display

    with build_display() as display:
        result = build_recipe(
            loaded,
            Path("out", loaded.recipe.name),
            store=open_store(),
            executor=executor,
            watcher=display,
            until=stage,
        )
    return {one.name: one.artifact.directory for one in result.stages}


def kept_measurement(loaded: LoadedRecipe, executor: Executor) -> Path | None:
    """The artifact of a measurement that the gate refused; None when it did not come that far."""
    from bwdeploy.build import open_store, plan_recipe

    stages = plan_recipe(loaded, store=open_store(), device=executor.device).stages
    artifact = next((one.artifact for one in stages if one.name == "acceptance"), None)
    return artifact.directory if artifact is not None else None


def swept(
    recipe: Path, widths: Sequence[int], overrides: Sequence[str], executor: Executor
) -> list[SweptDraft]:
    """Train and measure a draft of each width; one that the gate refuses is told and left out.

    Raises:
        GateError: every width was refused.
    """
    name = require_drafts(recipe, overrides)
    # what is wrong with one width is said before the first is trained
    loaded = [
        opened(recipe, [*overrides, f"speculative.train.ffn_width={width}", named(name, f"ffn-{width}")])
        for width in widths
    ]
    drafts, refused = [], None
    for one in loaded:
        require_trained(one, recipe)
        require_measured(one, recipe)
    for width, one in zip(widths, loaded, strict=True):
        typer.echo(f"width {width:,}", err=True)
        try:
            drafts.append(_trained(width, one, executor))
        except GateError as error:
            typer.echo(f"width {width:,} is left out: {error.message}", err=True)
            refused = error
    if refused is not None and not drafts:
        raise refused
    return drafts


def _trained(width: int, loaded: LoadedRecipe, executor: Executor) -> SweptDraft:
    from bwdeploy.report.draft_sweep import SweptDraft
    from bwdeploy.stages.acceptance import choice_of, read_acceptance

    made = built_until(loaded, "acceptance", executor)
    measured = read_acceptance(made["acceptance"])
    return SweptDraft(width, training_of(made["draft"]), measured, choice_of(measured))


def training_of(draft: Path) -> DraftTrainingResult:
    """How the draft of a finished stage was trained.

    Raises:
        StoreError: it was imported.
    """
    from bwdeploy.stages.draft import read_draft_report

    training = read_draft_report(draft).training
    if training is None:
        raise StoreError(
            f"{draft} is not a trained draft", hint="Give the recipe a section speculative.train"
        )
    return training
