"""Findings about a recipe file, made from a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.errors import Finding

if TYPE_CHECKING:
    from bwdeploy.errors import Severity
    from bwdeploy.recipe.places import Place


def finding_at(
    place: Place,
    *,
    rule: str,
    path: str,
    message: str,
    hint: str = "",
    severity: Severity = "error",
    source: str = "",
) -> Finding:
    """A finding at `place`; a value of the command line is named in the message, as it has no line."""
    suffix = f" (given by {place.option})" if place.option else ""
    return Finding(
        rule=rule,
        severity=severity,
        path=path,
        message=message.rstrip(".") + suffix,
        hint=hint[:1].upper() + hint[1:],
        file=place.file,
        line=place.line,
        column=place.column,
        source=source,
    )


def in_reading_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Each finding once, by file and line."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda one: (one.file, one.line, one.column, one.path)))
