"""The verb that reports: report; and what `build` says of the reports it wrote."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bwdeploy.cli.arguments import AsJson, ExecutorFile, ExecutorName, Overrides
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
    executor: ExecutorName = None,
    executor_file: ExecutorFile = None,
    file: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Where to write.", show_default="<OUT>-report.html"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of an output anew, or of what there is of a build that was stopped."""
    from bwdeploy.report.html.canvas import can_draw

    target = file or Path(f"{_name_of(out)}-report.html")
    if target.resolve().is_relative_to(out.resolve()):
        raise argument_error(
            f"-o: {target} would be written into {out}, which stays as it was built",
            "Choose another place; a page inside an output is renewed by building again",
        )
    page = (
        _page_of_output(out, overrides)
        if out.is_dir()
        else _page_of_recipe(out, overrides or (), executor, executor_file)
    )
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


def _name_of(place: Path) -> str:
    """Of an output the whole name, which may have dots; of a recipe without its suffix."""
    whole = Path(os.path.normpath(place.absolute()))
    return whole.name if place.is_dir() else whole.stem


def _page_of_output(out: Path, overrides: Sequence[str] | None) -> str:
    from bwdeploy.build import open_store
    from bwdeploy.report.html.reporter import report_of_output

    if overrides:
        raise argument_error(f"{out} is a build: --set changes recipes only", "Name its recipe file")
    return report_of_output(out, open_store())


def _page_of_recipe(
    recipe: Path, overrides: Sequence[str], executor: str | None, executor_file: Path | None
) -> str:
    from bwdeploy.build import open_store
    from bwdeploy.recipe.load import load_recipes
    from bwdeploy.report.html.reporter import report_of_recipe
    from bwdeploy.tools.executors import open_executor

    loaded = load_recipes(recipe, overrides=overrides)
    if len(loaded) > 1:
        raise argument_error(
            f"{recipe} stands for {len(loaded)} builds", "Keep one: --set AXIS=VALUE for each axis of matrix"
        )
    device = open_executor(executor, file=executor_file).device
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
def tells_of_refused(
    recipe: Path, overrides: Sequence[str], executor: str | None, executor_file: Path | None
) -> Iterator[None]:
    """Say on stderr how to see all that was measured, when a gate stops a build with these arguments."""
    try:
        yield
    except GateError:
        given = (("--executor", executor), ("--executor-file", executor_file))
        options = (*(("--set", one) for one in overrides), *(pair for pair in given if pair[1] is not None))
        words = ("bwdeploy", "report", str(recipe), *(str(word) for pair in options for word in pair))
        typer.echo(f"all that was measured: {shlex.join(words)}", err=True)
        raise


def _tell_of_pictures() -> None:
    from bwdeploy.report.html.canvas import can_draw

    if not can_draw():
        typer.echo(
            "the report has no pictures, because matplotlib is not installed: pip install 'bwdeploy[plot]'",
            err=True,
        )
