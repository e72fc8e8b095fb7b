"""LLM API arguments of one TensorRT-LLM version as another version spells them.

Reads every key into the concept that it stands for (see `argument_readings`), writes each concept as the
target spells it, and notes what changes: another name, value or default, nothing to say it with. What the
target would refuse all the same is taken out (see `argument_limits`).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import argument_error
from bwdeploy.facts.llm_arg_spellings import concepts, containers, translated_versions
from bwdeploy.facts.versions import parse_version
from bwdeploy.migration.argument_limits import without_refused
from bwdeploy.migration.argument_lists import ArgumentList, argument_list
from bwdeploy.migration.argument_readings import Reading, dotted, largest_batch, mapping_at, take_readings
from bwdeploy.migration.argument_values import can_write, written
from bwdeploy.migration.found import Effect, Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.llm_arg_spellings import ArgumentPath, Spelling

LISTS = "tensorrt_llm/llmapi/llm_args.py"


class Translated(NamedTuple):
    """Arguments for the target version, and what there is to say about the way there."""

    arguments: dict[str, Any]
    notes: tuple[Note, ...]


def translate(arguments: dict[str, Any], *, found: str, target: str) -> Translated:
    """`arguments` written for TensorRT-LLM `found`, as `target` takes them; the given ones stay as they are.

    Raises:
        RecipeError: one of the versions is not between 0.17 and 1.4.
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    source, known = _list_of(found), _list_of(target)
    rest = copy.deepcopy(arguments)
    notes: list[Note] = []
    readings = list(take_readings(rest, source.version, notes))
    result: dict[str, Any] = {}
    _keep_known(rest, (), known, (result, notes))
    off = _switched_off(readings, source, known)
    for reading in sorted(readings, key=lambda one: (len(one.concept.name), not one.concept.carries)):
        if reading.concept.name[:-1] in off:
            notes.append(_without_switch(reading))
        else:
            _write(reading, known, (result, notes))
    for reading in readings:
        if reading.concept.carries and _right_spelling(reading, known) is None:
            notes.extend(_without_carrier(reading.concept.name[:-1], result))
    notes.extend(_other_defaults(readings, source, known))
    final, refused = without_refused(result, target)
    return Translated(final, (*notes, *refused))


def _list_of(version: str) -> ArgumentList:
    known = argument_list(version)
    first, last = parse_version("0.17"), parse_version("1.5")
    if known is None or first is None or last is None or not first <= known.version < last:
        names = translated_versions()
        raise argument_error(
            f"arguments of TensorRT-LLM {version} are not known", f"known: {names[0]} to {names[-1]}"
        )
    return known


# Writing


_Out = tuple[dict[str, Any], list[Note]]


def _keep_known(rest: dict[str, Any], path: ArgumentPath, known: ArgumentList, out: _Out) -> None:
    """Keys that never changed their name: those that the target has too."""
    for key, value in rest.items():
        here = (*path, str(key))
        if not known.has(here):
            out[1].append(_unknown(here, value, known))
        elif isinstance(value, dict) and value and known.keys_at(here):
            _set(out[0], here, {})
            _keep_known(value, here, known, out)
        else:
            _set(out[0], here, value)


def _unknown(path: ArgumentPath, value: Any, known: ArgumentList) -> Note:  # noqa: ANN401
    name = dotted(path)
    if path[:1] in {held for held, _, _ in containers()}:
        return Note("lost", name, value, "no LLM API argument stands for this", "", LISTS)
    if len(path) == 1 and path[0] in known.engine_only:
        message = "only the engine backend has this key; the PyTorch backend never used it"
        return Note("no-effect", name, value, message, "", LISTS)
    near = known.nearest_key(path)
    hint = f"nearest: {near}" if near else ""
    return Note("lost", name, value, "the target version has no such argument", hint, LISTS)


def _write(reading: Reading, known: ArgumentList, out: _Out) -> None:
    result, notes = out
    concept = reading.concept
    right = _right_spelling(reading, known)
    if right is None:
        notes.append(_left_out(reading))
        return
    value = written(reading.meant, right, largest_batch(result))
    if not _set(result, right.path, value):
        message = f"{dotted(right.path[:-1])} is switched off"
        notes.append(Note("no-effect", dotted(reading.path), reading.given, message, "", concept.source))
        return
    notes.extend(_way(reading, right, value))


def _right_spelling(reading: Reading, known: ArgumentList) -> Spelling | None:
    """How the target version says it, None when it cannot."""
    concept, value = reading.concept, reading.meant
    right = None if concept.always else concept.spelling_for(known.version)
    since = concept.value_since.get(value) if isinstance(value, str) else None
    late = since is not None and known.version < since
    return None if right is None or late or not can_write(value, right) else right


def _switched_off(
    readings: list[Reading], source: ArgumentList, known: ArgumentList
) -> frozenset[ArgumentPath]:
    """Mappings that nobody switched on, which their mere presence would switch on in the target version."""
    given = {reading.concept.name for reading in readings}
    found = set()
    for concept in concepts():
        before, after = concept.spelling_for(source.version), concept.spelling_for(known.version)
        if concept.is_switch and concept.name not in given and before is not None and after is not None:
            default = concept.default_of(known.version)
            on_anyway = default is not None and default.value is not None
            if before.form == "switch" != after.form and not on_anyway:
                found.add(concept.name)
    return frozenset(found)


def _without_switch(reading: Reading) -> Note:
    message = f"{dotted(reading.concept.name[:-1])} was not switched on, so that this changed nothing"
    return Note("no-effect", dotted(reading.path), reading.given, message, "", reading.concept.source)


def _left_out(reading: Reading) -> Note:
    concept = reading.concept
    harmless = any(reading.meant == value for value in concept.harmless)
    message = "the target version has no such argument, and does not need it" if harmless else (
        "the target version has nothing that stands for this"
    )  # fmt: skip
    why = concept.always or concept.why
    effect: Effect = "no-effect" if harmless else "lost"
    return Note(
        effect,
        dotted(reading.path),
        reading.given,
        message + (f": {why}" if why else ""),
        "",
        concept.source,
    )


def _without_carrier(path: ArgumentPath, result: dict[str, Any]) -> Iterator[Note]:
    """Drop the mapping that means nothing without the key that was left out."""
    parent = mapping_at(result, path[:-1])
    if parent is not None and path[-1] in parent:
        yield Note("lost", dotted(path), parent.pop(path[-1]), "it means nothing without that key", "", LISTS)


def _way(reading: Reading, right: Spelling, value: Any) -> Iterator[Note]:  # noqa: ANN401
    key, name, source = dotted(reading.path), dotted(right.path), reading.concept.source
    if isinstance(reading.given, str) and reading.given in reading.concept.discouraged:
        message = f"written as {value}: {reading.concept.discouraged_why}"
        yield Note("changed", key, reading.given, message, "", source)
    elif isinstance(reading.meant, str) and reading.meant in right.collapse:
        message = f"written as {value}: the target version has no {reading.meant}"
        yield Note("changed", key, reading.given, message, f"write {right.advice}", source)
    if reading.path != right.path:
        opposite = " with the opposite value" if _opposite(reading.given, value) else ""
        yield Note("renamed", key, reading.given, f"now {name}{opposite}", "", source)
    elif type(value) is type(reading.given) and value not in (reading.given, {}) and not right.collapse:
        yield Note("renamed", key, reading.given, f"now written {value}", "", source)


def _opposite(given: object, value: object) -> bool:
    return isinstance(given, bool) and isinstance(value, bool) and given is not value


# Defaults


def _other_defaults(readings: list[Reading], source: ArgumentList, known: ArgumentList) -> Iterator[Note]:
    """What nobody set and what is something else in the target version."""
    given = {reading.concept.name for reading in readings}
    inside = {name[:-1] for name in given}
    for concept in concepts():
        before, after = concept.default_of(source.version), concept.default_of(known.version)
        if before is None or after is None or before.value == after.value or concept.name in given:
            continue
        set_inside = " (only its members were set)" if concept.is_switch and concept.name in inside else ""
        message = f"nobody set it{set_inside}: before, {before.text}; in the target version, {after.text}"
        right = concept.spelling_for(known.version)
        hint = f"set {dotted(right.path)} to keep what was" if right else ""
        yield Note("changed", dotted(concept.name), None, message, hint, concept.source)


def _set(arguments: dict[str, Any], path: ArgumentPath, value: Any) -> bool:  # noqa: ANN401
    """Put `value` at `path`; False where a value above it is no mapping."""
    at = arguments
    for word in path[:-1]:
        below = at.setdefault(word, {})
        if not isinstance(below, dict):
            return False
        at = below
    if value == {} and isinstance(at.get(path[-1]), dict):
        return True
    at[path[-1]] = value
    return True
