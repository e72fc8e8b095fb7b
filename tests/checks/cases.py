"""One row for each rule and each way it speaks up; `test_every_rule` runs them all.

A theme keeps its rows in `cases_<theme>.py`: `FIRES` and `SILENT`.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Fires(NamedTuple):
    """A recipe that a rule must complain about."""

    rule: str
    overrides: tuple[str, ...]
    """As given to `--set`, over the base recipe of the tests."""
    path: str
    message: str
    """All of it."""
    severity: str = "error"
    hint: str | None = None
    """All of it, when given."""
    config: dict[str, Any] | None = None
    """Content of the model's config.json, when the rule looks at the model."""


class Silent(NamedTuple):
    """A recipe near the border that the rule must accept."""

    rule: str
    overrides: tuple[str, ...]
    config: dict[str, Any] | None = None
