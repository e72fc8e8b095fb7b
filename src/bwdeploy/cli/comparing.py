"""The verb that compares: diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bwdeploy.cli.arguments import AsJson, Overrides
from bwdeploy.cli.output import print_json

_Side = Annotated[Path, typer.Argument(help="A recipe file, or an output directory of `bwdeploy build`.")]
_OwnOverrides = Annotated[
    list[str] | None,
    typer.Option(metavar="A.B=V", help="As --set, for this side only; repeatable.", show_default=False),
]


def diff(
    a: _Side,
    b: _Side,
    *,
    overrides: Overrides = None,
    set_a: _OwnOverrides = None,
    set_b: _OwnOverrides = None,
    as_json: AsJson = False,
) -> None:
    """Say what differs in meaning between two recipes or builds; the exit code is 0 either way."""
    from bwdeploy.difference import compare
    from bwdeploy.difference.sides import open_side
    from bwdeploy.report.difference import difference_json, difference_text

    both = overrides or []
    difference = compare(
        open_side(a, overrides=[*both, *(set_a or ())]),
        open_side(b, overrides=[*both, *(set_b or ())]),
    )
    if as_json:
        print_json(difference_json(difference))
    else:
        typer.echo(difference_text(difference))
