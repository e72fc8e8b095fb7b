"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.", show_default=False)]
OutPath = Annotated[
    Path, typer.Argument(metavar="OUT", help="An output directory of `bwdeploy build`.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=V", help="Change a value of the recipe; repeatable.", show_default=False
    ),
]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor", metavar="NAME", help="Where jobs run: local, container or slurm.", show_default="local"
    ),
]
ExecutorFile = Annotated[
    Path | None,
    typer.Option(
        "--executor-file", metavar="FILE", help="Settings of the executor.", show_default="$BWDEPLOY_EXECUTOR"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
