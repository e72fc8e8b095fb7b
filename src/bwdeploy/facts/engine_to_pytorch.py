"""What becomes of an engine's settings when it is built anew, and on the PyTorch backend.

One row for each option of trtllm-build and for each template key of the Triton models that serve an engine.
Facts only: rows are applied in `migration.settings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.reader import read_data
from bwdeploy.facts.triton_templates import template_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

Effect = Literal["renamed", "changed", "lost", "no-effect"]
BUILD = "build"
"""The group of the options of trtllm-build; the other groups are names of Triton models."""


class SettingRow(NamedTuple):
    """What becomes of one setting."""

    effect: Effect
    """On the PyTorch backend."""
    use: tuple[str, ...]
    """Path of the recipe that says it on the PyTorch backend; empty when nothing does."""
    values: Mapping[str, Any] | None
    """Value there → value of the recipe; None: it stays."""
    quiet: tuple[Any, ...]
    """Values that need no word: off, or the default of both."""
    engine: str
    """What a recipe for engines does with it: keep, derived (the build writes it), changed, no-effect, lost,
    or the dotted path of the recipe that says it."""
    engine_why: str
    engine_hint: str
    engine_values: Mapping[str, Any] | None
    """As `values`, for engines; None as a value: the recipe's default says it."""
    why: str
    hint: str
    source: str


class ChangedDefault(NamedTuple):
    """What changes on the PyTorch backend when nobody said it."""

    unless: tuple[str, ...]
    """Settings (`group.key`) one of which says it."""
    key: str
    now: str
    """Argument and value, empty when no argument says it."""
    message: str
    source: str


class FormerKey(NamedTuple):
    """A template key that is gone."""

    effect: Effect
    why: str
    hint: str


def setting_row(group: str, key: str, value: str = "") -> SettingRow | None:
    """The row of a setting, or None when it is not known; some values have a row of their own."""
    data = read_data("engine_to_pytorch.json")
    rows = data["build"] if group == BUILD else data["template"].get(group, {})
    row = rows.get(key)
    return None if row is None else _row(group, key, {**row, **row.get("by_value", {}).get(value, {})})


def known_settings() -> tuple[tuple[str, str], ...]:
    """Group and key of every setting that has a row."""
    data = read_data("engine_to_pytorch.json")
    groups = {BUILD: data["build"], **data["template"]}
    return tuple((group, key) for group, rows in groups.items() for key in rows)


def former_template_key(key: str) -> FormerKey | None:
    """What became of a template key that older versions had, None for any other key."""
    row = read_data("engine_to_pytorch.json")["former"].get(key)
    return None if row is None else FormerKey(row["effect"], row["why"], row.get("hint", ""))


def changed_defaults() -> tuple[ChangedDefault, ...]:
    """What changes without a word."""
    rows = read_data("engine_to_pytorch.json")["defaults"]
    return tuple(ChangedDefault(**{**row, "unless": tuple(row["unless"])}) for row in rows)


def _elsewhere(group: str, key: str) -> str:
    """Where a recipe says a template key outside `serve.engine_parameters`, else `keep`."""
    known = None if group == BUILD else template_keys().get(key)
    return (known.elsewhere if known else "") or "keep"


def _row(group: str, key: str, row: Mapping[str, Any]) -> SettingRow:
    return SettingRow(
        effect=row["effect"],
        use=tuple(row["use"].split(".")) if row.get("use") else (),
        values=row.get("values"),
        quiet=tuple(row.get("quiet", ())),
        engine=row.get("engine") or _elsewhere(group, key),
        engine_values=row.get("engine_values"),
        engine_hint=row.get("engine_hint", row.get("hint", "")),
        engine_why=row.get("engine_why", row.get("why", "")),
        why=row.get("why", ""),
        hint=row.get("hint", ""),
        source=row.get("source", ""),
    )
