"""The options of `trtllm-build`, which exists up to TensorRT-LLM 1.3.0rc20, and what it refuses.

Facts only: which combinations a recipe may not use is said in `checks.build_flags`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

from bwdeploy.facts.reader import read_data

Kind = Literal["text", "whole", "switch", "list"]
Fate = Literal["renamed", "no-effect", "lost", "layout", "checkpoint"]
"""no-effect: it is always so now. lost: nothing stands for it. layout, checkpoint: said when the checkpoint
is made."""


class BuildFlag(NamedTuple):
    """One option, without its dashes."""

    name: str
    kind: Kind
    group: str
    """build, logits, lora, speculative or plugin."""
    help: str
    default: str | int | bool | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    path: Literal["", "read", "write"] = ""
    """Whether the value names a file or directory, and what is done with it."""
    absent_up_to: str = ""
    """The newest `major.minor` known not to have it."""


class FormerFlag(NamedTuple):
    """An option that older versions had."""

    effect: Fate
    fate: str
    """What became of it, in words."""
    became: str = ""
    """The option that means the same now."""


@cache
def build_flags() -> dict[str, BuildFlag]:
    """Every option by name; an alias is no name."""
    return {name: _flag(name, row) for name, row in _data()["flags"].items()}


def aliases() -> dict[str, str]:
    """Alias → name."""
    return {alias: flag.name for flag in build_flags().values() for alias in flag.aliases}


def removed_flags() -> frozenset[str]:
    """Options of TensorRT-LLM 1.0 and older that later versions do not have."""
    return frozenset(_data()["removed"]["flags"])


@cache
def former_flags() -> dict[str, FormerFlag]:
    """Options of older versions and of the scripts before them, by name; none is an option now."""
    return {name: FormerFlag(**row) for name, row in _data()["former"]["flags"].items()}


def plugins_refused_on(sm: int) -> tuple[frozenset[str], bool]:
    """The plugins that cannot be built for `sm`, and whether that is upstream's own statement."""
    rows = _data()["refused_on_sm"]
    if sm in rows["refused"]:
        return frozenset(rows["flags"]), True
    return frozenset(rows["flags"] if sm in rows["unlisted"] else ()), False


def engine_architectures() -> frozenset[str]:
    """The architectures that trtllm-build has a model class for."""
    return frozenset(_data()["architectures"])


def _flag(name: str, row: dict[str, Any]) -> BuildFlag:
    return BuildFlag(
        name=name,
        kind=row["kind"],
        group=row["group"],
        help=row["help"],
        default=row.get("default"),
        choices=tuple(row.get("choices", ())),
        aliases=tuple(row.get("aliases", ())),
        path=row.get("path", ""),
        absent_up_to=row.get("absent_up_to", ""),
    )


def _data() -> dict[str, Any]:
    data: dict[str, Any] = read_data("trtllm_build_flags.json")
    return data
