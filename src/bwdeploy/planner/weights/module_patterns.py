"""Which tensors of a group a shell-style pattern names, mostly without writing out every name.

A group stands for the same matrix in many layers and experts: tens of thousands of names in a large MoE.
A pattern without digits treats them all alike, so one look is enough; else the layers, and only where the
pattern tells experts apart the experts too, are looked at one by one. A checkpoint's list of modules that
are left alone names hundreds: `ModuleList` finds whole names and their parents without trying each.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bwdeploy.model.shape import Weight

_ANY_EXPERT = "\x00"
_NUMBERED = re.compile(r"[0-9?\[]")
_WILD = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"[0-9]+")


class ModuleList(NamedTuple):
    """Names and patterns of modules; a name stands for all that lies below it too."""

    names: frozenset[str]
    patterns: tuple[str, ...]

    @classmethod
    def of(cls, entries: Iterable[str]) -> ModuleList:
        """Names and shell-style patterns, told apart."""
        listed = tuple(entries)
        wild = tuple(entry for entry in listed if _WILD.search(entry))
        return cls(frozenset(listed) - frozenset(wild), (*wild, *(f"{entry}.*" for entry in wild)))

    def split(self, weight: Weight) -> Iterator[tuple[Weight, bool]]:
        """The parts of a group that the list covers and those that it does not."""
        parts = list(self._split_by_name(weight)) if self.names else [(weight, False)]
        for pattern in self.patterns:
            parts = [
                (piece, covered or named)
                for part, covered in parts
                for piece, named in ([(part, True)] if covered else split_group(part, pattern))
            ]
        yield from parts

    def _split_by_name(self, weight: Weight) -> Iterator[tuple[Weight, bool]]:
        verdicts: dict[bool, list[int]] = {}
        for layer in weight.layers or (0,):
            verdicts.setdefault(self._holds(_name(weight, layer, "0")), []).append(layer)
        for verdict, layers in verdicts.items():
            yield weight._replace(layers=tuple(layers) if weight.layers else ()), verdict

    def _holds(self, name: str) -> bool:
        """The name or any module that it lies in; experts of one layer are listed all or not at all."""
        pieces = name.split(".")
        return any(".".join(pieces[:end]) in self.names for end in range(1, len(pieces) + 1))


def split_group(weight: Weight, pattern: str) -> Iterator[tuple[Weight, bool]]:
    """The parts of a group that `pattern` names and those that it does not, each with that verdict."""
    if not _NUMBERED.search(pattern):
        yield weight, matches(_name(weight, 0, "0"), pattern)
        return
    yes: list[int] = []
    no: list[int] = []
    for layer in weight.layers or (0,):
        verdict = _whole_layer(weight, layer, pattern)
        if verdict is None:
            yield from _split_experts(weight, layer, pattern)
        else:
            (yes if verdict else no).append(layer)
    for layers, verdict in ((yes, True), (no, False)):
        if layers:
            yield weight._replace(layers=tuple(layers) if weight.layers else ()), verdict


def matches(name: str, pattern: str) -> bool:
    """Whether a shell-style pattern covers a module name."""
    return _compiled(pattern).match(name) is not None


def _whole_layer(weight: Weight, layer: int, pattern: str) -> bool | None:
    """The verdict on all copies in a layer; None when it differs among experts."""
    if "{expert}" not in weight.module:
        return matches(_name(weight, layer, "0"), pattern)
    name = _name(weight, layer, _ANY_EXPERT)
    if matches(name, pattern):
        return True
    return None if _may_name_an_expert(pattern).match(name) else False


def _split_experts(weight: Weight, layer: int, pattern: str) -> Iterator[tuple[Weight, bool]]:
    named = sum(matches(_name(weight, layer, str(expert)), pattern) for expert in range(weight.copies))
    for copies, verdict in ((named, True), (weight.copies - named, False)):
        if copies:
            yield weight._replace(layers=(layer,) if weight.layers else (), copies=copies), verdict


def _name(weight: Weight, layer: int, expert: str) -> str:
    return weight.module.replace("{layer}", str(layer)).replace("{expert}", expert)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


@lru_cache(maxsize=512)
def _may_name_an_expert(pattern: str) -> re.Pattern[str]:
    """The pattern with each number in it open for the expert's place."""
    if "[" in pattern or "?" in pattern:
        return re.compile("")
    pieces = fnmatch.translate(_DIGITS.sub(lambda digits: f"<{digits.group()}>", pattern))
    return re.compile(re.sub(r"<([0-9]+)>", rf"(?:\1|{_ANY_EXPERT})", pieces))
