"""How verbs print: JSON on stdout, findings on stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bwdeploy.errors import Finding


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print a value as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_builds(builds: list[Any]) -> None:
    """Print what a verb says of each build of a recipe: the one by itself, several under `builds`."""
    print_json(builds[0] if len(builds) == 1 else {"builds": builds})


def tell(findings: Iterable[Finding]) -> None:
    """Print findings on stderr, one line each."""
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding}", err=True)
