"""Holds a value against a JSON Schema and says what does not fit, in a recipe writer's words.

Covers what pydantic writes for configuration classes (objects closed to unknown keys, unions with and
without a discriminator, enums, bounds) plus the `x-` keys of our bundled files. It is no general
validator: a keyword that it does not know is not checked.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.recipe.validate import shown
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.recipe.places import KeyPath

Kind = Literal[
    "unknown-key",
    "wrong-type",
    "not-a-choice",
    "out-of-bounds",
    "missing-key",
    "deprecated",
    "unlisted-value",
    "engine-only",
]
Schema = dict[str, Any]

_MAX_DEPTH = 60
_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
    "null": type(None),
}


class Misfit(NamedTuple):
    """One thing that does not fit."""

    kind: Kind
    path: KeyPath
    message: str
    hint: str
    missing: str = ""
    """The key that is missing."""
    others: str = ""
    """What could be chosen in place of a value that does not exist, when `hint` names one only."""


@dataclass(frozen=True, slots=True)
class SchemaWalk:
    """A walk along one schema document."""

    root: Schema

    def misfits(self, value: object, schema: Schema, path: KeyPath = ()) -> Iterator[Misfit]:
        """Everything at or below `path` that `schema` does not allow."""
        if len(path) > _MAX_DEPTH:
            return
        if schema.get("x-status") == "deprecated":
            yield Misfit("deprecated", path, "upstream has deprecated this key", "remove it")
        branches = self._branches(schema)
        fitting = [branch for branch in branches if _type_fits(value, branch)]
        if not fitting:
            yield _wrong_type(value, branches, path)
            return
        yield from _unlisted(value, schema, path)
        if len(fitting) == 1:
            yield from self._in_branch(value, fitting[0], path)
            return
        attempts = [list(self._in_branch(value, branch, path)) for branch in fitting]
        yield from min(attempts, key=len)

    def property_at(self, path: KeyPath) -> bool:
        """Whether the schema knows a key at `path`."""
        schemas = [self.root]
        for part in path:
            below: list[Schema] = []
            for schema in schemas:
                for branch in self._branches(schema, all_of_union=True):
                    found = (
                        branch.get("items")
                        if isinstance(part, int)
                        else branch.get("properties", {}).get(part)
                    )
                    below.extend([found] if isinstance(found, dict) else [])
            schemas = below
        return bool(schemas)

    def paths_ending_in(self, key: str) -> list[str]:
        """Dotted paths `class.key` of the top-level arguments whose own class has `key`."""
        return [
            f"{argument}.{key}"
            for argument in self.root.get("properties", {})
            if self.property_at((argument, key))
        ]

    def _branches(self, schema: Schema, *, all_of_union: bool = False, depth: int = 0) -> list[Schema]:
        schema = self._resolved(schema)
        options = schema.get("anyOf") or schema.get("oneOf")
        if not isinstance(options, list) or depth > _MAX_DEPTH:
            return [schema]
        if "discriminator" in schema and not all_of_union:
            return [schema]
        return [
            branch
            for option in options
            for branch in self._branches(option, all_of_union=all_of_union, depth=depth + 1)
        ]

    def _resolved(self, schema: Schema) -> Schema:
        for _ in range(_MAX_DEPTH):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            at: Any = self.root
            for part in reference.removeprefix("#/").split("/"):
                at = at.get(part, {}) if isinstance(at, dict) else {}
            schema = at if isinstance(at, dict) else {}
        return schema

    def _in_branch(self, value: object, schema: Schema, path: KeyPath) -> Iterator[Misfit]:
        if "discriminator" in schema:
            yield from self._discriminated(value, schema, path)
        elif isinstance(value, dict):
            yield from self._object(value, schema, path)
        elif isinstance(value, list):
            items = schema.get("items")
            for index, item in enumerate(value):
                if isinstance(items, dict):
                    yield from self.misfits(item, items, (*path, index))
            yield from _too_short(value, schema, path)
        else:
            yield from _scalar(value, schema, path)

    def _discriminated(self, value: object, schema: Schema, path: KeyPath) -> Iterator[Misfit]:
        if not isinstance(value, dict):
            yield Misfit("wrong-type", path, f"expected a mapping, got {shown(value)}", "write a mapping")
            return
        key, mapping = schema["discriminator"]["propertyName"], schema["discriminator"].get("mapping", {})
        chosen = value.get(key)
        if not isinstance(chosen, str) or chosen not in mapping:
            yield _wrong_discriminator(key, chosen, list(mapping), path)
            return
        branch = self._resolved({"$ref": mapping[chosen]})
        if not self._for_pytorch(branch):
            usable = [name for name, option in mapping.items() if self._for_pytorch({"$ref": option})]
            hint = f"choose one that the PyTorch backend has: {', '.join(usable)}"
            yield Misfit("engine-only", (*path, key), f"{chosen} exists for the engine backend only", hint)
        yield from self._object(value, branch, path)

    def _for_pytorch(self, option: Schema) -> bool:
        return "pytorch" in self._resolved(option).get("x-backends", ["pytorch"])

    def _object(self, value: dict[str, Any], schema: Schema, path: KeyPath) -> Iterator[Misfit]:
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties", True)
        for key, below in value.items():
            here = (*path, key)
            if key in properties:
                yield from self.misfits(below, properties[key], here)
            elif isinstance(extra, dict):
                yield from self.misfits(below, extra, here)
            elif extra is False:
                near = nearest(key, properties)
                hint = f"did you mean {near}" if near else ""
                yield Misfit("unknown-key", here, "there is no such key", hint)
        for key in schema.get("required", []):
            if key not in value:
                yield Misfit("missing-key", path, f"the key {key} is missing", f"add {key}", missing=key)


def _type_fits(value: object, schema: Schema) -> bool:
    if schema.get("x-python-only"):
        return False
    if "enum" in schema or "const" in schema:
        return any(type(value) is type(choice) for choice in _choices(schema))
    if "discriminator" in schema:
        return isinstance(value, dict)
    wanted = schema.get("type")
    if wanted is None:
        return not schema.get("properties") or isinstance(value, dict)
    return any(_is(value, word) for word in (wanted if isinstance(wanted, list) else [wanted]))


def _is(value: object, word: str) -> bool:
    if isinstance(value, bool):
        return word == "boolean"
    return word in _PYTHON_TYPES and isinstance(value, _PYTHON_TYPES[word])


def _choices(schema: Schema) -> list[Any]:
    return list(schema.get("enum", [schema["const"]] if "const" in schema else []))


def _wrong_type(value: object, branches: list[Schema], path: KeyPath) -> Misfit:
    words: list[str] = []
    for branch in branches:
        if "enum" in branch or "const" in branch:
            words.append("one of " + ", ".join(str(choice) for choice in _choices(branch)))
        elif not branch.get("x-python-only"):
            wanted: str | list[str] = branch.get("type", "object")
            words.extend(
                _TYPE_WORDS.get(word, word) for word in ([wanted] if isinstance(wanted, str) else wanted)
            )
    if not words:
        return Misfit("wrong-type", path, "only Python code can give this argument, no file can", "remove it")
    expected = " or ".join(dict.fromkeys(words))
    return Misfit("wrong-type", path, f"expected {expected}, got {shown(value)}", f"write {expected}")


def _wrong_discriminator(key: str, chosen: object, choices: list[str], path: KeyPath) -> Misfit:
    one_of = ", ".join(choices)
    if chosen is None:
        return Misfit("missing-key", path, f"the key {key} is missing", f"add {key}, one of: {one_of}")
    near = nearest(str(chosen), choices)
    hint = f"did you mean {near}" if near else f"choose one of: {one_of}"
    message = f"{shown(chosen)} is not a valid choice"
    return Misfit("not-a-choice", (*path, key), message, hint, others=f"choose one of: {one_of}")


def _scalar(value: object, schema: Schema, path: KeyPath) -> Iterator[Misfit]:
    choices = _choices(schema)
    if choices and value not in choices:
        near = nearest(str(value), [str(choice) for choice in choices])
        one_of = ", ".join(str(choice) for choice in choices)
        hint = f"did you mean {near}" if near else f"choose one of: {one_of}"
        message = f"{shown(value)} is not one of: {one_of}"
        yield Misfit("not-a-choice", path, message, hint, others=f"choose one of: {one_of}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from _bounds(value, schema, path)


def _bounds(value: float, schema: Schema, path: KeyPath) -> Iterator[Misfit]:
    limits: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
        ("minimum", "at least", operator.ge),
        ("exclusiveMinimum", "more than", operator.gt),
        ("maximum", "at most", operator.le),
        ("exclusiveMaximum", "less than", operator.lt),
    )
    for keyword, words, holds in limits:
        bound = schema.get(keyword)
        if isinstance(bound, int | float) and not holds(value, bound):
            message = f"expected {words} {bound}, got {shown(value)}"
            yield Misfit("out-of-bounds", path, message, "choose a value within the bounds")


def _too_short(value: list[Any], schema: Schema, path: KeyPath) -> Iterator[Misfit]:
    least = schema.get("minItems")
    if isinstance(least, int) and len(value) < least:
        message = f"expected at least {least} entries, got {len(value)}"
        yield Misfit("out-of-bounds", path, message, "add entries, or remove the key")


def _unlisted(value: object, schema: Schema, path: KeyPath) -> Iterator[Misfit]:
    known = schema.get("x-known-values")
    if (
        isinstance(known, list)
        and isinstance(value, str)
        and value.lower() not in {str(word).lower() for word in known}
    ):
        one_of = ", ".join(str(word) for word in known)
        near = nearest(value, [str(word) for word in known])
        hint = f"did you mean {near}" if near else f"known: {one_of}"
        yield Misfit("unlisted-value", path, f"{shown(value)} is not among the known values", hint)
