"""The verb about drafts for speculative decoding: draft measure, train, sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bwdeploy.cli.arguments import AsJson, ExecutorFile, ExecutorName, Overrides, RecipePath
from bwdeploy.cli.draft_builds import (
    built_until,
    kept_measurement,
    measuring,
    named,
    opened,
    require_drafts,
    require_measured,
    require_trained,
    swept,
    training_of,
)
from bwdeploy.cli.output import print_json
from bwdeploy.errors import GateError, argument_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.pipeline.jobs import Executor
    from bwdeploy.planner.speed.draft_choice import DraftChoice
    from bwdeploy.recipe.schema import Recipe

_PlotFile = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw a picture (.png or .svg).", show_default=False),
]
_MOST_WIDTHS = 20
_WIDTHS = (16, 1_048_576)

draft = typer.Typer(help="Drafts for speculative decoding: measure one, train one, compare widths.")


@draft.command("measure")
def measure(
    place: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT|RECIPE",
            help="A build or a recipe with a draft; none with --acceptance.",
            show_default=False,
        ),
    ] = None,
    *,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|builtin",
            help="Prompts (.jsonl), or the built-in workloads.",
            show_default="the recipe's",
        ),
    ] = None,
    acceptance: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Choose from a table, without a model: {"acceptance_length": [at k=1, at k=2, …]}.',
            show_default=False,
        ),
    ] = None,
    t0: Annotated[
        float | None,
        typer.Option(
            "--t0", metavar="MS", help="With --acceptance: a step without drafts.", show_default=False
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="With --acceptance: what each drafted token adds to a step.",
            show_default=False,
        ),
    ] = None,
    timings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='In place of --t0 and --delta, fitted: {"step_ms": {"0": MS, "3": MS, …}} by draft length,'
            ' or, for a schedule over batch sizes, {"timings": [{"batch_size": 1, "step_ms": {…}}, …]}.',
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    plot: _PlotFile = None,
    as_json: AsJson = False,
) -> None:
    """Choose the draft length by what a draft is measured, or published, to be accepted and to cost."""
    from bwdeploy.cli.draft_files import choice_from_files
    from bwdeploy.report.plot import check_plot_file

    if plot is not None:
        check_plot_file(plot)
    if acceptance is not None:
        if any((place, prompts is not None, overrides, executor, executor_file)):
            raise argument_error(
                "--acceptance runs no model",
                "Leave the recipe, --prompts, --set and the executor out, or --acceptance",
            )
        choice = choice_from_files(acceptance, t0, delta, timings)
        _show_choice(choice, acceptance, plot=plot, as_json=as_json)
        return
    if place is None:
        raise argument_error(
            "measure needs an output directory or a recipe, or else --acceptance FILE",
            "Name one of them: bwdeploy draft measure RECIPE",
        )
    if (t0, delta, timings) != (None, None, None):
        raise argument_error("--t0, --delta and --timings go with --acceptance", "A model is timed, not told")
    from bwdeploy.tools.executors import open_executor

    runner = open_executor(executor, file=executor_file)
    name = require_drafts(place, overrides or ())
    asked = measuring(prompts, overrides or ())
    if prompts is not None:
        asked.append(named(name, "prompts"))
    _measure(place, asked, runner, plot=plot, as_json=as_json)


@draft.command("train")
def train(
    recipe: RecipePath,
    *,
    overrides: Overrides = None,
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    as_json: AsJson = False,
) -> None:
    """Train the EAGLE3 draft of a recipe for its checkpoint; an interrupted training goes on."""
    from bwdeploy.report.draft_training import training_json, training_text
    from bwdeploy.stages.draft import FILES
    from bwdeploy.tools.executors import open_executor

    loaded = opened(recipe, overrides or ())
    require_trained(loaded, recipe)
    made = built_until(loaded, "draft", open_executor(executor, file=executor_file))["draft"]
    training = training_of(made)
    if as_json:
        print_json(training_json(training, made / FILES))
    else:
        typer.echo(training_text(training, made / FILES))


@draft.command("sweep")
def sweep(
    recipe: RecipePath,
    *,
    ffn: Annotated[
        str, typer.Option(metavar="N,N,…", help="Widths of the feed-forward part, for example 256,512,1024.")
    ],
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|builtin", help="Prompts to measure on (.jsonl).", show_default="the recipe's"
        ),
    ] = None,
    overrides: Overrides = None,
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    plot: _PlotFile = None,
    as_json: AsJson = False,
) -> None:
    """Train a draft of each width and show what it accepts against what it costs.

    Shorten the training for a first look, for example with --set speculative.train.steps=300.
    """
    from bwdeploy.report.draft_plot import write_sweep_plot
    from bwdeploy.report.draft_sweep import sweep_json, sweep_text
    from bwdeploy.report.plot import check_plot_file
    from bwdeploy.tools.executors import open_executor

    widths = _widths(ffn)
    if plot is not None:
        check_plot_file(plot)
    runner = open_executor(executor, file=executor_file)
    drafts = swept(recipe, widths, measuring(prompts, overrides or ()), runner)
    if plot is not None:
        write_sweep_plot(drafts, plot, title=f"{recipe.name}: drafts by FFN width")
    if as_json:
        print_json(sweep_json(drafts))
    else:
        typer.echo(sweep_text(drafts))
    _tell_picture(plot)


def _measure(
    place: Path, overrides: Sequence[str], runner: Executor, *, plot: Path | None, as_json: bool
) -> None:
    loaded = opened(place, overrides)
    require_measured(loaded, place)
    try:
        made: Path | None = built_until(loaded, "acceptance", runner)["acceptance"]
        refused = None
    except GateError as error:
        made, refused = kept_measurement(loaded, runner), error
    if made is not None and not (refused and as_json):
        _show_measurement(loaded.recipe, made, plot=plot, as_json=as_json)
    if refused is not None:
        raise refused


def _show_measurement(recipe: Recipe, made: Path, *, plot: Path | None, as_json: bool) -> None:
    from bwdeploy.facts.speculation import measured_length
    from bwdeploy.report.draft_measurement import measured_json, measured_text
    from bwdeploy.report.draft_plot import write_draft_plot
    from bwdeploy.stages.acceptance import choice_of, read_acceptance

    measured = read_acceptance(made)
    choice, engine = choice_of(measured), recipe.engine
    if plot is not None:
        write_draft_plot(choice, plot, title=f"{recipe.name}: draft on {measured.device}", measured=measured)
    if as_json:
        arguments = measured_length(
            measured.method,
            engine.tensorrt_llm,
            choice.draft_len_schedule,
            largest_batch=engine.max_batch_size,
        )
        print_json(measured_json(measured, choice, arguments if choice.draft_len else {}))
    else:
        typer.echo(measured_text(measured, choice))
    _tell_picture(plot)


def _show_choice(choice: DraftChoice, table: Path, *, plot: Path | None, as_json: bool) -> None:
    from bwdeploy.report.draft_plot import write_draft_plot
    from bwdeploy.report.drafts import choice_json, choice_text

    if plot is not None:
        write_draft_plot(choice, plot, title=f"Draft length by {table.name}")
    if as_json:
        print_json(choice_json(choice))
    else:
        typer.echo(choice_text(choice))
    _tell_picture(plot)


def _widths(words: str) -> tuple[int, ...]:
    widths = []
    for word in filter(None, (part.strip() for part in words.split(","))):
        if not (word.isascii() and word.isdecimal()) or not _WIDTHS[0] <= int(word[:9]) <= _WIDTHS[1]:
            raise argument_error(f"--ffn: {word!r} is no width", "Write for example 256,512,1024")
        widths.append(int(word))
    if not 1 <= len(set(widths)) <= _MOST_WIDTHS:
        raise argument_error(f"--ffn: {len(set(widths))} widths", f"Name 1 to {_MOST_WIDTHS}")
    return tuple(sorted(set(widths)))


def _tell_picture(plot: Path | None) -> None:
    if plot is not None:
        typer.echo(f"picture: {plot}", err=True)
