"""Which settings a set of LLM API arguments makes, whatever its version called them.

Takes every key out that any version ever spelled otherwise; what stays has one name in all versions. How
another version writes what was found is decided in `arguments`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.llm_arg_spellings import concepts
from bwdeploy.migration.argument_values import meant
from bwdeploy.migration.found import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.llm_arg_spellings import ArgumentPath, Concept, Spelling
    from bwdeploy.facts.versions import Version


class Reading(NamedTuple):
    """A concept that the arguments set."""

    concept: Concept
    path: ArgumentPath
    """Where it stood."""
    given: Any
    meant: Any


def take_readings(rest: dict[str, Any], version: Version, notes: list[Note]) -> Iterator[Reading]:
    """Take every concept out of `rest`, written for `version`; a second spelling of one is noted."""
    batch = largest_batch(rest)
    for concept in concepts():
        seen: Reading | None = None
        for spelling in concept.reading_order(version):
            parent = mapping_at(rest, spelling.path[:-1])
            if parent is None or spelling.path[-1] not in parent or not concept.concerns(parent):
                continue
            given = _take(rest, spelling.path, concept)
            if seen is None:
                seen = Reading(concept, spelling.path, given, _meant(concept, spelling, given, batch))
                yield seen
            elif given != seen.given:
                message = f"{dotted(seen.path)} says the same and wins"
                notes.append(Note("no-effect", dotted(spelling.path), given, message, "", concept.source))


def _meant(concept: Concept, spelling: Spelling, given: Any, batch: int | None) -> Any:  # noqa: ANN401
    value = meant(given, spelling, batch)
    return concept.discouraged.get(value, value) if isinstance(value, str) else value


def _take(rest: dict[str, Any], path: ArgumentPath, concept: Concept) -> Any:  # noqa: ANN401
    """Take the value at `path` out, and the mappings that held nothing else."""
    parent = mapping_at(rest, path[:-1])
    if parent is None:
        return None
    value = parent.pop(path[-1])
    if concept.is_switch and isinstance(value, dict):
        if value:
            parent[path[-1]] = value  # keys that are no concept of ours
        value = {}
    switches = {one.name for one in concepts() if one.is_switch}
    for end in range(len(path) - 1, 0, -1):
        outer = mapping_at(rest, path[: end - 1])
        if outer is None or outer.get(path[end - 1]) != {} or path[:end] in switches:
            break
        del outer[path[end - 1]]
    return value


def largest_batch(arguments: dict[str, Any]) -> int | None:
    """Requests in one step, where that is said."""
    nested = arguments.get("build_config")
    value = arguments.get(
        "max_batch_size", nested.get("max_batch_size") if isinstance(nested, dict) else None
    )
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def mapping_at(arguments: dict[str, Any], path: ArgumentPath) -> dict[str, Any] | None:
    """The mapping at `path`, None when something else or nothing stands there."""
    at: Any = arguments
    for word in path:
        at = at.get(word) if isinstance(at, dict) else None
    return at if isinstance(at, dict) else None


def dotted(path: ArgumentPath) -> str:
    """The path as people write it."""
    return ".".join(path)
