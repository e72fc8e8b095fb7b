"""How verbs print JSON."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print a value as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
