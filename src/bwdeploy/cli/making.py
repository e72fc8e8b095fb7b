"""The verb that makes: build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bwdeploy.cli.arguments import AsJson, ExecutorFile, ExecutorName, Overrides, RecipePath
from bwdeploy.cli.draft_builds import require_prompts
from bwdeploy.cli.output import print_json, tell
from bwdeploy.cli.reporting import tell_of_reports, tells_of_refused
from bwdeploy.errors import argument_error


def build(
    recipe: RecipePath,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Where to write; several builds each get a directory in it.",
            show_default="out/<name>",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Build a recipe into a Triton model repository; what is finished already is not done again."""
    from bwdeploy.build import build_recipe, open_store
    from bwdeploy.checks.recipes import all_findings, check_recipes
    from bwdeploy.report.build_progress import build_display
    from bwdeploy.report.builds import build_json, build_text
    from bwdeploy.report.html.reporter import HtmlReporter
    from bwdeploy.tools.executors import open_executor

    _require_stage(until)
    chosen = open_executor(executor, file=executor_file)
    checked = check_recipes(recipe, overrides=overrides or ())
    tell(all_findings(checked))
    for one in checked:
        require_prompts(one.loaded.recipe)
    results = []
    with build_display() as display, tells_of_refused(recipe, overrides or (), executor, executor_file):
        for one in checked:
            target = _output_directory(out, one.loaded.recipe.name, several=len(checked) > 1)
            results.append(
                build_recipe(
                    one.loaded,
                    target,
                    store=open_store(),
                    executor=chosen,
                    watcher=display,
                    until=until,
                    reporter=HtmlReporter(),
                )
            )
    if as_json:
        shown = [build_json(result) for result in results]
        print_json(shown[0] if len(shown) == 1 else {"ok": True, "builds": shown})
    else:
        typer.echo("\n".join(build_text(result) for result in results))
    tell_of_reports(result.out for result in results if result.out is not None)


def _output_directory(out: Path | None, name: str, *, several: bool) -> Path:
    if out is None:
        return Path("out", name)
    return out / name if several else out


def _require_stage(name: str | None) -> None:
    from bwdeploy.recipe.words import nearest
    from bwdeploy.stages import STAGES

    names = [stage.name for stage in STAGES]
    if name is not None and name not in names:
        raise argument_error(
            f"--until: there is no stage {name!r}",
            f"did you mean {near}"
            if (near := nearest(name, names))
            else f"The stages are {', '.join(names)}",
        )
