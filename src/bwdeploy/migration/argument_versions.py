"""For which TensorRT-LLM a set of LLM API arguments was written, by the spelling of its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.llm_arg_spellings import concepts, translated_versions
from bwdeploy.facts.versions import parse_version
from bwdeploy.migration.argument_lists import argument_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.llm_arg_spellings import ArgumentPath
    from bwdeploy.facts.versions import Version


def guess_version(arguments: dict[str, Any]) -> tuple[str, str]:
    """The oldest and the newest version that take most of `arguments` as they are spelled."""
    misfits = [(_misfits(arguments, version), version) for version in translated_versions()]
    fewest = min(count for count, _ in misfits)
    fitting = [version for count, version in misfits if count == fewest]
    return fitting[0], fitting[-1]


def assumed_version(arguments: dict[str, Any], target: str) -> str:
    """The version to take `arguments` for, when nobody says it: the fitting one nearest to `target`."""
    low, high = guess_version(arguments)
    wanted, oldest, newest = parse_version(target), parse_version(low), parse_version(high)
    if wanted is None or oldest is None or newest is None:
        return high
    if oldest <= wanted <= newest:
        return target
    return low if wanted < oldest else high


def paths_of(arguments: dict[str, Any], path: ArgumentPath = ()) -> Iterator[tuple[ArgumentPath, Any]]:
    """Every key at every depth, with what stands there."""
    for key, value in arguments.items():
        here = (*path, str(key))
        yield here, value
        if isinstance(value, dict):
            yield from paths_of(value, here)


def _misfits(arguments: dict[str, Any], version: str) -> int:
    parsed, known = parse_version(version), argument_list(version)
    if parsed is None or known is None:
        return len(arguments) + 1
    spelled = _spellings(parsed)
    count = 0
    for path, value in paths_of(arguments):
        if path in spelled:
            right, wrong_values = spelled[path]
            count += not right or (isinstance(value, str) and value in wrong_values)
        elif any(path == other[: len(path)] for other in spelled):  # holds others
            held = any(right and path == other[: len(path)] for other, (right, _) in spelled.items())
            count += not held and not known.has(path)
        elif len(path) == 1 or known.keys_at(path[:-1]):
            count += not known.has(path)
    return count


def _spellings(version: Version) -> dict[ArgumentPath, tuple[bool, frozenset[str]]]:
    """Path → whether `version` has it, and values that it writes otherwise."""
    found: dict[ArgumentPath, tuple[bool, frozenset[str]]] = {}
    for concept in concepts():
        for spelling in concept.spellings:
            right, wrong = found.get(spelling.path, (False, frozenset()))
            if spelling.holds(version):
                others = {
                    theirs
                    for other in concept.spellings
                    if other.path == spelling.path and not spelling.values
                    for theirs in other.values.values()
                    if isinstance(theirs, str)
                }
                mine = {value for value, theirs in spelling.values.items() if theirs != value}
                late = {value for value, since in concept.value_since.items() if version < since}
                wrong = wrong | others | mine | late | set(spelling.collapse)
                right = True
            found[spelling.path] = (right, wrong)
    return found
