"""`recipes show NAME --explain`: every value that a recipe sets, what it means and what it is worth.

Meanings are the schema's own descriptions, worth is what `facts.levers` has published. Comments of the recipe
file are not read: they give the writer's reason, this gives the rest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from bwdeploy.facts.levers import all_levers, levers_at
from bwdeploy.facts.llm_arg_fields import argument_field
from bwdeploy.recipe.schema import Recipe, Section
from bwdeploy.report.wrapping import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.facts.levers import Lever, Path
    from bwdeploy.recipe.load import LoadedRecipe

_LLM_ARGS: Path = ("engine", "llm_args")
_NOT_SETTINGS = frozenset({"schema", "name", "expect"})
_INDENT = 6
_NO_FIGURE = "For the values without a line `worth`, no figure was found published."


class Sources:
    """Numbers for addresses that would otherwise stand in each line."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, source: str) -> int:
        """The number of `source`, a new one where it is new."""
        return self._numbers.setdefault(source, len(self._numbers) + 1)

    def lines(self) -> list[str]:
        """`[number] address`, in the order of the numbers."""
        return [f"[{number}] {source}" for source, number in self._numbers.items()]


class ExplainedValue(NamedTuple):
    """One value that a recipe sets."""

    path: Path
    value: Any
    meaning: str
    """Empty for an argument that upstream does not describe."""
    worth: tuple[Lever, ...]


def explain_levers(loaded: LoadedRecipe) -> tuple[ExplainedValue, ...]:
    """Every value that the recipe sets itself or takes from its bases, in the order of the schema.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    recipe = loaded.recipe.model_dump(mode="json", by_alias=True)
    set_values = {key: value for key, value in loaded.data.items() if key not in _NOT_SETTINGS}
    ordered = {key: set_values[key] for key in recipe if key in set_values}
    return tuple(
        ExplainedValue(path, value, _meaning(path, loaded.recipe), levers_at(path, recipe))
        for path, value in _settings(ordered, (), frozenset(lever.path for lever in all_levers()))
    )


def explain_text(loaded: LoadedRecipe) -> str:
    """The explanation for a person: each value, below it its meaning and worth; the sources at the end."""
    lines, sources = [loaded.recipe.name], Sources()
    for one in explain_levers(loaded):
        meaning = one.meaning.rstrip(".")
        lines.append(f"  {'.'.join(one.path)}: {json.dumps(one.value, ensure_ascii=False)}")
        for text in (meaning, *(lever_text(lever, sources) for lever in one.worth)):
            lines += wrapped(text, indent=_INDENT)
    return "\n".join([*lines, _NO_FIGURE, *sources.lines()])


def explain_json(loaded: LoadedRecipe) -> dict[str, Any]:
    """The explanation for programs."""
    return {
        "name": loaded.recipe.name,
        "values": [
            {
                "path": ".".join(one.path),
                "value": one.value,
                "meaning": one.meaning,
                "worth": [lever_json(lever) for lever in one.worth],
            }
            for one in explain_levers(loaded)
        ],
    }


def lever_text(lever: Lever, sources: Sources) -> str:
    """`worth: effect (model, hardware, workload; software, date) [number of the source]`."""
    when = ", ".join(filter(None, (lever.software, lever.date)))
    where = f"{lever.model}, {lever.hardware}, {lever.workload}"
    return f"worth: {lever.effect} ({where}; {when}) [{sources.number(lever.source)}]"


def lever_json(lever: Lever) -> dict[str, Any]:
    """A published effect for programs."""
    kept = ("id", "effect", "ratio", "model", "hardware", "workload", "software", "date", "source")
    return {name: getattr(lever, name) for name in kept}


def _settings(data: Mapping[str, Any], above: Path, units: frozenset[Path]) -> Iterator[tuple[Path, Any]]:
    """Single values, and mappings that a lever speaks about as a whole."""
    for key, value in data.items():
        path = (*above, key)
        if isinstance(value, dict) and value and path not in units:
            yield from _settings(value, path, units)
        else:
            yield path, value


def _meaning(path: Path, recipe: Recipe) -> str:
    if path[: len(_LLM_ARGS)] == _LLM_ARGS and len(path) > len(_LLM_ARGS):
        field = argument_field(recipe.engine.tensorrt_llm, path[len(_LLM_ARGS) :])
        return str(field.get("description", ""))
    section: type[Section] | None = Recipe
    meaning = ""
    for word in path:
        fields = (
            {field.alias or name: field for name, field in section.model_fields.items()} if section else {}
        )
        if word not in fields:
            return meaning
        meaning = fields[word].description or ""
        section = _section_of(fields[word].annotation)
    return meaning


def _section_of(annotation: object) -> type[Section] | None:
    """The section that a field holds, also where it may be left out (`Section | None`)."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
