"""How each TensorRT-LLM version spells an LLM API argument: one table for the checker and for migrations.

A concept is one setting; its spellings are the key paths that versions gave it, with what each does to the
value. Nothing is translated here (see `migration.arguments`) and nothing judged (see `llm_arg_renames`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

from bwdeploy.facts.reader import read_data
from bwdeploy.facts.versions import Version, parse_version

ArgumentPath = tuple[str, ...]
Form = Literal["", "switch", "invert", "schedule"]
"""switch: true and false stand for a mapping and null. invert: true stands for false. schedule: the batch
sizes of draft_len_schedule are lower bounds, not upper ones."""

_FIRST: Version = (0, 0, 0, 0)
_LAST: Version = (9999, 0, 0, 0)


class Spelling(NamedTuple):
    """One key path, and the versions it is right for."""

    path: ArgumentPath
    since: Version
    before: Version
    kind: Literal["right", "alias", "rare", "wrong"]
    """alias: taken beside the right one. rare: release candidates only. wrong: no version ever had it."""
    form: Form
    values: dict[str, Any]
    """Value of the concept → how this spelling writes it."""
    collapse: dict[str, str]
    """Value that these versions lack → the nearest one they have."""
    advice: str
    """What to say in place of the right path, for example with a value."""
    why: str
    tolerated: str
    """Not empty: later versions take it with a warning, for this reason."""

    def holds(self, version: Version) -> bool:
        """Whether `version` takes this spelling."""
        return self.kind != "wrong" and self.since <= version < self.before


class Default(NamedTuple):
    """What holds from `since` on when nobody sets a concept."""

    since: Version
    value: Any
    text: str


class Concept(NamedTuple):
    """One setting under all its names."""

    spellings: tuple[Spelling, ...]
    when: tuple[tuple[str, str], ...]
    """Sibling keys that must have these values."""
    why: str
    always: str
    """Not empty: no version should get it, for this reason."""
    harmless: tuple[Any, ...]
    """Values that change nothing where no spelling is left."""
    discouraged: dict[str, str]
    """Value → what to write instead, for every version."""
    discouraged_why: str
    tolerated_values: dict[str, str]
    """Written value of older versions → why newer ones warn of it."""
    value_since: dict[str, Version]
    carries: bool
    """Its siblings mean nothing without it."""
    defaults: tuple[Default, ...]
    switch_advice: str
    """What to say to somebody who wrote true or false for it."""
    source: str

    @property
    def name(self) -> ArgumentPath:
        """The path of the newest version that has it."""
        return max((one for one in self.spellings if one.kind == "right"), key=lambda one: one.before).path

    @property
    def is_switch(self) -> bool:
        """Whether the concept is a mapping that some versions know as true or false only."""
        return any(spelling.form == "switch" for spelling in self.spellings)

    def spelling_for(self, version: Version) -> Spelling | None:
        """The right spelling of `version`, None when it has none."""
        return next((one for one in self.spellings if one.kind == "right" and one.holds(version)), None)

    def reading_order(self, version: Version) -> list[Spelling]:
        """All spellings, those of `version` first."""
        return sorted(self.spellings, key=lambda one: (not one.holds(version), one.kind != "right"))

    def default_of(self, version: Version) -> Default | None:
        """What holds in `version` when nobody sets it; None when that never changed."""
        return next((one for one in reversed(self.defaults) if one.since <= version), None)

    def concerns(self, siblings: dict[str, Any]) -> bool:
        """Whether the concept is meant beside these keys."""
        return all(siblings.get(key) == value for key, value in self.when)


@cache
def concepts() -> tuple[Concept, ...]:
    """Every argument whose spelling ever changed; the members of a mapping before the mapping itself."""
    return tuple(_concept(row) for row in _data()["concepts"])


@cache
def containers() -> tuple[tuple[ArgumentPath, str, str], ...]:
    """Keys that only held others: path, what to write instead, why."""
    rows = _data()["containers"]
    return tuple(((row["found"],), row["advice"], row["why"]) for row in rows)


@cache
def arrivals() -> dict[ArgumentPath, Version]:
    """Keys that came later than 0.17 under the name they still have, with their first version."""
    rows = _data()["arrived"]
    return {
        _path(path): _version(since) for since, paths in rows.items() if since != "about" for path in paths
    }


def translated_versions() -> tuple[str, ...]:
    """A release or candidate of each series that arguments are translated between, oldest first."""
    return tuple(_data()["versions"])


def _concept(row: dict[str, Any]) -> Concept:
    return Concept(
        spellings=tuple(_spelling(one) for one in row["spellings"]),
        when=tuple(row.get("when", {}).items()),
        why=row.get("why", ""),
        always=row.get("always", ""),
        harmless=tuple(row.get("harmless", ())),
        discouraged=row.get("discouraged", {}),
        discouraged_why=row.get("discouraged_why", ""),
        tolerated_values=row.get("tolerated_values", {}),
        value_since={value: _version(since) for value, since in row.get("value_since", {}).items()},
        carries=row.get("carries", False),
        defaults=tuple(
            Default(_version(one.get("since", "0.0")), one["value"], one["text"])
            for one in row.get("defaults", ())
        ),
        switch_advice=row.get("advice", ""),
        source=row["source"],
    )


def _spelling(row: dict[str, Any]) -> Spelling:
    kind: Any = next((kind for kind in ("alias", "rare", "wrong") if row.get(kind)), "right")
    return Spelling(
        path=_path(row["path"]),
        since=_version(row["since"]) if "since" in row else _FIRST,
        before=_version(row["before"]) if "before" in row else _LAST,
        kind=kind,
        form=row.get("as", ""),
        values=row.get("values", {}),
        collapse=row.get("collapse", {}),
        advice=row.get("advice", row.get("collapse_advice", "")),
        why=row.get("why", ""),
        tolerated=row.get("tolerated", ""),
    )


def _path(dotted: str) -> ArgumentPath:
    return tuple(dotted.split("."))


def _version(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ValueError(text)
    return version


def _data() -> dict[str, Any]:
    data: dict[str, Any] = read_data("llm_args_translation.json")
    return data
