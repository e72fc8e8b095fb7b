"""The verbs that say what will be: plan, estimate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bwdeploy.cli.arguments import AsJson, ExecutorFile, Overrides, RecipePath
from bwdeploy.cli.output import print_builds, tell
from bwdeploy.errors import argument_error
from bwdeploy.places import executor_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.pipeline.jobs import Device

_MOST_CONCURRENCY = 1_048_576


def plan(
    recipe: RecipePath,
    *,
    overrides: Overrides = None,
    why: Annotated[bool, typer.Option("--why", help="Say why each stage runs or does not.")] = False,
    goal: Annotated[
        Literal["latency", "throughput"] | None,
        typer.Option("--suggest", help="Propose a layout in place of the recipe's own, and nothing else."),
    ] = None,
    settings: ExecutorFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the stages of a build, what is cached, and the memory it will need."""
    if goal is not None:
        _suggest(recipe, overrides or (), goal, as_json=as_json)
        return
    from bwdeploy.build import open_store, plan_recipe, planned_needs
    from bwdeploy.checks.recipes import all_findings, check_recipes
    from bwdeploy.report.plans import plan_json, plan_text

    store = open_store()
    checked = check_recipes(recipe, overrides=overrides or ())
    tell(all_findings(checked))
    device = _device(settings)
    plans = [plan_recipe(one.loaded, store=store, device=device) for one in checked]
    if as_json:
        shown = [plan_json(one, planned_needs(one)) for one in plans]
        print_builds(shown)
    else:
        typer.echo("\n\n".join(plan_text(one, planned_needs(one), why=why) for one in plans))


def _device(settings: Path | None) -> Device | None:
    """Of the machine that jobs run on, when the executor's settings say one."""
    if settings is None and executor_file() is None:
        return None
    from bwdeploy.tools.executors import open_executor

    return open_executor(None, file=settings).device


def _suggest(
    recipe: Path, overrides: Sequence[str], goal: Literal["latency", "throughput"], *, as_json: bool
) -> None:
    """Without the rules: a layout that they refuse is why somebody asks for another."""
    from bwdeploy.model.describe import describe_model
    from bwdeploy.planner.layout.suggest import suggest
    from bwdeploy.recipe.load import load_recipes
    from bwdeploy.report.layouts import suggestion_json, suggestion_text

    suggestions = [
        (loaded.recipe.name, suggest(loaded.recipe, describe_model(loaded.recipe), goal))
        for loaded in load_recipes(recipe, overrides=overrides)
    ]
    if as_json:
        print_builds([suggestion_json(name, one) for name, one in suggestions])
    else:
        typer.echo("\n\n".join(suggestion_text(name, one) for name, one in suggestions))


def estimate(
    recipe: RecipePath,
    *,
    overrides: Overrides = None,
    input_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Tokens of a prompt.", show_default=False)
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Tokens of an answer.", show_default=False)
    ] = None,
    concurrency: Annotated[
        str, typer.Option(metavar="N,N", help="Requests at once, for example 1,8,64.", show_default=False)
    ] = "",
    acceptance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="Of drafts: tokens gained in a step (above 1), or the rate of each token (up to 1).",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "aiconfigurator", "roofline"],
        typer.Option(help="auto: aiconfigurator where it is installed and has tables."),
    ] = "auto",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw a picture (.png or .svg).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict how fast a recipe will be, with a band, beside its `expect:` figures; nothing is run."""
    from bwdeploy.checks.recipes import check_recipes
    from bwdeploy.estimate.figures import EstimateRequest
    from bwdeploy.estimate.recipe import estimate_recipe
    from bwdeploy.report.estimates import estimate_json, estimate_text
    from bwdeploy.report.plot import check_plot_file, write_plot

    request = EstimateRequest(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=_counts(concurrency),
        acceptance=acceptance,
        method=method,
        front=plot is not None,
    )
    if plot is not None:
        check_plot_file(plot)
    checked = check_recipes(recipe, overrides=overrides or ())
    if plot is not None and len(checked) > 1:
        raise argument_error(f"--plot: {recipe} stands for {len(checked)} builds", "Pick one with --set")
    estimates = [estimate_recipe(one.loaded.recipe, request) for one in checked]
    if plot is not None:
        write_plot(estimates[0], plot)
    if as_json:
        shown = [estimate_json(one) for one in estimates]
        print_builds(shown)
        return
    typer.echo("\n\n".join(estimate_text(one) for one in estimates))
    if plot is not None:
        typer.echo(f"picture: {plot}", err=True)


def _counts(words: str) -> tuple[int, ...]:
    counts = []
    for word in filter(None, (part.strip() for part in words.split(","))):
        if not word.isdecimal() or not 1 <= int(word) <= _MOST_CONCURRENCY:
            raise argument_error(
                f"--concurrency: {word!r} is no number of requests", "Write for example 1,8,64"
            )
        counts.append(int(word))
    return tuple(counts)
