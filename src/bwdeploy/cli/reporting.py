"""The verb that reports: report; and what `build` says of the reports it wrote."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bwdeploy.cli.arguments import AsJson, ExecutorFile, Overrides
from bwdeploy.cli.output import print_json
from bwdeploy.errors import GateError, StoreError, argument_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def report(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT|RECIPE",
            help="An output directory, or a recipe whose build was stopped.",
            show_default=False,
        ),
    ],
    *,
    overrides: Overrides = None,
    executor_file: ExecutorFile = None,
    file: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Where to write.", show_default="<OUT>-report.html"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of an output anew, or of what there is of a build that was stopped."""
    from bwdeploy.build import open_store
    from bwdeploy.report.html.canvas import can_draw
    from bwdeploy.report.html.reporter import report_of_output

    page = (
        report_of_output(out, open_store())
        if out.is_dir()
        else _page_of_recipe(out, overrides or (), executor_file)
    )
    target = file or Path(f"{out.absolute().stem}-report.html")
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error.strerror or error}", hint="Choose another place with -o"
        ) from error
    if as_json:
        print_json({"ok": True, "report": str(target), "pictures": can_draw()})
        return
    typer.echo(str(target))
    _tell_of_pictures()


def _page_of_recipe(recipe: Path, overrides: Sequence[str], executor_file: Path | None) -> str:
    from bwdeploy.build import open_store
    from bwdeploy.recipe.load import load_recipes
    from bwdeploy.report.html.reporter import report_of_recipe
    from bwdeploy.tools.executors import open_executor

    loaded = load_recipes(recipe, overrides=overrides)
    if len(loaded) > 1:
        raise argument_error(f"{recipe} stands for {len(loaded)} builds", "Pick one with --set")
    device = open_executor(None, file=executor_file).device
    return report_of_recipe(loaded[0], open_store(), device=device)


def tell_of_reports(outputs: Iterable[Path]) -> None:
    """Say on stderr where the reports of finished builds are, and when they have no pictures."""
    from bwdeploy.report.html.reporter import PAGE

    pages = [page for out in outputs if (page := out / PAGE).is_file()]
    for page in pages:
        typer.echo(f"report: {page}", err=True)
    if pages:
        _tell_of_pictures()


@contextmanager
def tells_of_refused(recipe: Path) -> Iterator[None]:
    """Say on stderr how to see all that was measured, when a gate stops a build of `recipe`."""
    try:
        yield
    except GateError:
        typer.echo(f"all that was measured: bwdeploy report {recipe}", err=True)
        raise


def _tell_of_pictures() -> None:
    from bwdeploy.report.html.canvas import can_draw

    if not can_draw():
        typer.echo(
            "the report has no pictures, because matplotlib is not installed: pip install 'bwdeploy[plot]'",
            err=True,
        )
