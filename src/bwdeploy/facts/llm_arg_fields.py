"""What the list of LLM API arguments says about one argument: its default, its description.

Checking a value against the list is not done here (see `checks.llm_args`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.llm_args import llm_args_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.facts.levers import Path


def argument_field(version: str, path: Path) -> Mapping[str, Any]:
    """The schema of the argument at `path` in TensorRT-LLM `version`; empty when it is not known.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    known = llm_args_schema(version)
    root: Mapping[str, Any] = known.schema if known else {}
    field = root
    for word in path:
        candidates = (branch.get("properties", {}).get(word) for branch in _branches(field, root))
        field = next((found for found in candidates if isinstance(found, dict)), {})
    return field


def argument_default(version: str, path: Path) -> Any:  # noqa: ANN401 - JSON data
    """What an argument is when nobody sets it; None also where that is not known."""
    return argument_field(version, path).get("default")


def _branches(field: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects that a field may hold, references followed."""
    for option in (field, *field.get("anyOf", ()), *field.get("oneOf", ())):
        name = str(option.get("$ref", "")).removeprefix("#/$defs/")
        yield root.get("$defs", {}).get(name, option)
