"""Which LLM API arguments a TensorRT-LLM version has, for all versions since 0.17.

From 1.2 on the lists of the versions themselves speak; before that the list of 1.2.1 without what came later.
Keys that changed their name are not known here (see `facts.llm_arg_spellings`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.llm_arg_spellings import arrivals
from bwdeploy.facts.llm_args import bundled_schema, llm_args_schema
from bwdeploy.facts.versions import Version, parse_version
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.llm_arg_spellings import ArgumentPath

_OLDEST_LIST = "1.2.1"
_LISTS_START: Version = (1, 2, 0, 0)


class ArgumentList(NamedTuple):
    """The arguments of one version."""

    schema: dict[str, Any]
    engine_only: frozenset[str]
    version: Version

    def keys_at(self, path: ArgumentPath) -> frozenset[str]:
        """The keys of the mapping at `path`, of all its forms; empty where the keys are anybody's own."""
        nodes = [self.schema]
        for word in path:
            nodes = [
                branch["properties"][word]
                for node in nodes
                for branch in self._branches(node)
                if word in branch.get("properties", {})
            ]
        found = {key for node in nodes for one in self._branches(node) for key in one.get("properties", {})}
        return frozenset(key for key in found if self._arrived((*path, key)))

    def has(self, path: ArgumentPath) -> bool:
        """Whether the version has an argument at `path`."""
        return path[-1] in self.keys_at(path[:-1])

    def nearest_key(self, path: ArgumentPath) -> str:
        """The known key most like the last of `path`, empty when none is."""
        near = nearest(path[-1], self.keys_at(path[:-1]))
        return ".".join((*path[:-1], near)) if near else ""

    def _arrived(self, path: ArgumentPath) -> bool:
        if self.version >= _LISTS_START:
            return True
        came = [arrivals().get(path[:end]) for end in range(1, len(path) + 1)]
        return all(since is None or since <= self.version for since in came)

    def _branches(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        node = self.schema.get("$defs", {}).get(name, node)
        options = (*node.get("anyOf", ()), *node.get("oneOf", ()))
        if not options:
            yield node
        for option in options:
            yield from self._branches(option)


def argument_list(version: str) -> ArgumentList | None:
    """The arguments of `version`, None for one that nothing is known of.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    parsed = parse_version(version)
    if parsed is None:
        return None
    known = llm_args_schema(version) if parsed >= _LISTS_START else bundled_schema(_OLDEST_LIST)
    return ArgumentList(known.schema, known.engine_only_keys, parsed) if known is not None else None
