"""Which tensors of a group a shell-style pattern names, mostly without writing out every name.

A group stands for the same matrix in many layers and experts: tens of thousands of names in a large MoE.
A pattern without digits treats them all alike, so one look is enough; else the layers, and only where the
pattern tells experts apart the experts too, are looked at one by one. A checkpoint's list of modules that
are left alone names hundreds: `ModuleList` puts entries that differ in the layer's number together, and
compares them with a group once.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.model.fields import MAX_LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bwdeploy.model.shape import Weight

_ANY_EXPERT = "\x00"
_WILD = frozenset("*?[")
_NUMBERED = frozenset("0123456789?[")


class ModuleList(NamedTuple):
    """Names and patterns of modules; a name stands for all that lies below it too."""

    names: frozenset[str]
    """Whole names, for groups outside layers."""
    layered: Mapping[str, frozenset[int]]
    """Names of modules in layers: with `{layer}` and `{expert}` for the numbers, and in which layers."""
    layered_patterns: Mapping[str, frozenset[int]]
    """Patterns that name one layer, likewise."""
    patterns: tuple[str, ...]
    """The others."""

    @classmethod
    def of(cls, entries: Iterable[str]) -> ModuleList:
        """Names and shell-style patterns, told apart."""
        names: set[str] = set()
        layered: dict[str, set[int]] = {}
        layered_patterns: dict[str, set[int]] = {}
        patterns: list[str] = []
        for entry in dict.fromkeys(entries):
            is_name = _WILD.isdisjoint(entry)
            template, layer = _layer_template(entry)
            if is_name:
                names.add(entry)
            # A pattern that ends in a star covers what lies below already.
            below = () if is_name or entry.endswith("*") else (".*",)
            for end in ("", *below):
                if layer is not None:
                    (layered if is_name else layered_patterns).setdefault(template + end, set()).add(layer)
                elif not is_name:
                    patterns.append(entry + end)
        return cls(frozenset(names), _frozen(layered), _frozen(layered_patterns), tuple(patterns))

    def split(self, weight: Weight) -> Iterator[tuple[Weight, bool]]:
        """The parts of a group that the list covers and those that it does not."""
        parts = list(_parts(weight, self._layers(weight)))
        for pattern in self.patterns:
            parts = [
                (piece, covered or named)
                for part, covered in parts
                for piece, named in ([(part, True)] if covered else split_group(part, pattern))
            ]
        yield from parts

    def _layers(self, weight: Weight) -> frozenset[int]:
        """In which of its layers the whole group is covered; outside layers 0 stands for the group."""
        name = weight.module.replace("{expert}", "0")
        prefixes = _prefixes(name)
        if not self.names.isdisjoint(prefixes):
            return frozenset(weight.layers or (0,))
        if weight.layers:
            return self._covered(name, prefixes)
        template, number = _layer_template(name)
        return frozenset((0,) if number in self._covered(template, ()) else ())

    def _covered(self, template: str, prefixes: tuple[str, ...]) -> frozenset[int]:
        found: frozenset[int] = frozenset()
        for prefix in prefixes:
            found |= self.layered.get(prefix, frozenset())
        for pattern, layers in self.layered_patterns.items():
            if not layers <= found and matches(template, pattern):
                found |= layers
        return found


def _frozen(table: Mapping[str, set[int]]) -> dict[str, frozenset[int]]:
    return {name: frozenset(layers) for name, layers in table.items()}


def _layer_template(entry: str) -> tuple[str, int | None]:
    """The entry with `{layer}` for its first number, and that number; None when it names no single layer.

    Before the number there must be no wildcard, after it nothing that tells experts apart.
    """
    before, number, after = _first_number(entry)
    if not number or not (_WILD.isdisjoint(entry) or _NUMBERED.isdisjoint(after)):
        return entry, None
    return f"{before}{{layer}}{after}", int(number)


def _first_number(entry: str) -> tuple[str, str, str]:
    """The piece between two dots that is a number, what stands before it and what behind."""
    place = 0
    for piece in entry.split("."):
        if piece.isdecimal():
            return entry[:place], piece, entry[place + len(piece) :]
        if not _WILD.isdisjoint(piece):
            break
        place += len(piece) + 1
    return entry, "", ""


def _prefixes(name: str) -> tuple[str, ...]:
    """The name and every module that it lies in; experts of one layer are listed all or not at all."""
    pieces = name.split(".")
    return tuple(".".join(pieces[:end]) for end in range(1, len(pieces) + 1))


def _parts(weight: Weight, covered: frozenset[int]) -> Iterator[tuple[Weight, bool]]:
    """The group in two: the layers that are covered and the others."""
    layers = weight.layers or (0,)
    if covered.isdisjoint(layers) or covered.issuperset(layers):
        yield weight, not covered.isdisjoint(layers)
        return
    for verdict in (True, False):
        yield weight._replace(layers=tuple(one for one in layers if (one in covered) is verdict)), verdict


def split_group(weight: Weight, pattern: str) -> Iterator[tuple[Weight, bool]]:
    """The parts of a group that `pattern` names and those that it does not, each with that verdict."""
    if _NUMBERED.isdisjoint(pattern):
        yield weight, matches(_name(weight, 0, "0"), pattern)
        return
    yes: set[int] = set()
    apart: list[int] = []
    for layer in _candidates(weight, pattern):
        verdict = _whole_layer(weight, layer, pattern)
        if verdict is None:
            apart.append(layer)
            yield from _split_experts(weight, layer, pattern)
        elif verdict:
            yes.add(layer)
    if not apart:
        yield from _parts(weight, frozenset(yes))
    elif rest := tuple(layer for layer in weight.layers if layer not in apart):
        yield from _parts(weight._replace(layers=rest), frozenset(yes))


def _candidates(weight: Weight, pattern: str) -> Iterable[int]:
    """The layers that a pattern may speak of: what stands before its first wildcard decides."""
    head, inside, _ = weight.module.partition("{layer}")
    fixed = pattern[: next((at for at, one in enumerate(pattern) if one in _WILD), len(pattern))]
    if not inside or not weight.layers or len(fixed) <= len(head):
        return (weight.layers or (0,)) if head.startswith(fixed) or not inside else ()
    number = fixed[len(head) :].partition(".")[0]
    if not fixed.startswith(head) or not number.isdecimal():
        return ()
    return sorted(_numbers_from(number).intersection(weight.layers))


@lru_cache(maxsize=512)
def _numbers_from(digits: str) -> frozenset[int]:
    """Layer numbers that begin with these digits."""
    number = int(digits)
    if str(number) != digits or not number:
        return frozenset((number,) if digits == "0" else ())
    longer = (range(number * 10**more, (number + 1) * 10**more) for more in range(len(str(MAX_LAYERS))))
    return frozenset(one for some in longer for one in some if one <= MAX_LAYERS)


def matches(name: str, pattern: str) -> bool:
    """Whether a shell-style pattern covers a module name."""
    if "?" in pattern or "[" in pattern:
        return _compiled(pattern).match(name) is not None
    return _stars_match(name, pattern.split("*"))


def _stars_match(name: str, pieces: list[str]) -> bool:
    """A pattern with stars only, split at them; compiling it would take longer than all its uses here."""
    if len(pieces) == 1:
        return name == pieces[0]
    first, *middle, last = pieces
    at, end = len(first), len(name) - len(last)
    if at > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for piece in middle:
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


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
    pieces = fnmatch.translate(re.sub(r"[0-9]+", lambda digits: f"<{digits.group()}>", pattern))
    return re.compile(re.sub(r"<([0-9]+)>", rf"(?:\1|{_ANY_EXPERT})", pieces))
