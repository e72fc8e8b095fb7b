"""The values that differ between two recipes as they take effect, and what each was worth where published.

A default that is written out is no difference: neither a recipe's own nor an LLM API argument's, each by its
own TensorRT-LLM version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bwdeploy.facts.levers import levers_at
from bwdeploy.facts.llm_arg_fields import argument_default

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.levers import Lever, Path
    from bwdeploy.recipe.load import LoadedRecipe

_LLM_ARGS: Path = ("engine", "llm_args")
_NOT_MEANING = frozenset({"schema", "name"})


class Worth(NamedTuple):
    """A published effect that tells the two apart."""

    side: Literal["a", "b", "either"]
    """Whose value has it; either: it speaks about the key, whatever its value."""
    lever: Lever


class Change(NamedTuple):
    """A value that differs."""

    path: Path
    a: Any
    """None: not set, and no default is known."""
    b: Any
    worth: tuple[Worth, ...] = ()


def value_changes(a: LoadedRecipe, b: LoadedRecipe) -> Iterator[Change]:
    """Every value that differs, in the order of the schema.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    effective_a, effective_b = _effective(a), _effective(b)
    versions = a.recipe.engine.tensorrt_llm, b.recipe.engine.tensorrt_llm
    for path, value_a, value_b in _unequal(effective_a, effective_b, (), versions):
        yield Change(path, value_a, value_b, tuple(_worth(path, effective_a, effective_b)))


def _worth(path: Path, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Worth]:
    for lever in levers_at(path, a, b):
        in_a, in_b = lever.in_use(a), lever.in_use(b)
        if in_a != in_b:
            yield Worth("a" if in_a else "b", lever)
        elif not lever.when:
            yield Worth("either", lever)


def _effective(loaded: LoadedRecipe) -> dict[str, Any]:
    data = loaded.recipe.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in data.items() if key not in _NOT_MEANING}


def _unequal(a: Any, b: Any, path: Path, versions: tuple[str, str]) -> Iterator[tuple[Path, Any, Any]]:  # noqa: ANN401 - plain data
    is_figure = len(path) > 1 and path[0] == "expect"
    # null switches an argument off, but a section of the recipe is just left out
    if path[: len(_LLM_ARGS)] != _LLM_ARGS and not is_figure:
        a, b = _or_empty(a, b), _or_empty(b, a)
    if is_figure or not (isinstance(a, dict) and isinstance(b, dict)):
        if a != b:
            yield path, a, b
        return
    for key in dict.fromkeys((*a, *b)):
        here = (*path, key)
        below_a, below_b = (
            one[key] if key in one else _default(here, version)
            for one, version in zip((a, b), versions, strict=True)
        )
        yield from _unequal(below_a, below_b, here, versions)


def _or_empty(one: Any, other: Any) -> Any:  # noqa: ANN401 - plain data
    return {} if one is None and isinstance(other, dict) else one


def _default(path: Path, version: str) -> Any:  # noqa: ANN401 - plain data
    if path[: len(_LLM_ARGS)] != _LLM_ARGS:
        return None
    return argument_default(version, path[len(_LLM_ARGS) :])
