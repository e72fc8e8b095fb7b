"""Trees of drafted tokens: what an engine with EAGLE or Medusa heads is built for and served with.

A tree is written as its nodes, each the path of choices to it: [0] is the likeliest first token, [0, 1] the
second likeliest after it. Sources: tensorrt_llm's cpp/tensorrt_llm/runtime/utils/speculativeChoicesUtils.cpp
@04a2cacbfd3b (what is checked), cpp/include/tensorrt_llm/runtime/{eagle,medusa}Module.h (the built-in tree),
examples/eagle/README.md @585c756579dc (depth and width of the engine).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

DEEPEST = 16
"""Levels at most: four bits of a 64-bit word for each."""
BUILT_IN_NODES = 63


class DraftTree(NamedTuple):
    """The tree that a step drafts."""

    nodes: int
    """Tokens in it, the accepted one before it not counted."""
    depth: int
    """Drafted tokens that one step can accept."""
    widest: int
    """Nodes with successors on one level, at most."""
    choices: list[list[int]] | None
    """None for the tree that TensorRT-LLM takes when none is given."""


_BUILT_IN = DraftTree(nodes=BUILT_IN_NODES, depth=4, widest=10, choices=None)
"""mc_sim_7b_63 of the Medusa authors."""


def draft_tree(method: str, draft_len: int, parameters: Mapping[str, Any]) -> DraftTree:
    """The tree of `method`: as `serve.engine_parameters` give it, else by the number of tokens.

    63 tokens mean the tree that TensorRT-LLM has built in, any other number a chain without branches.
    """
    given = given_choices(method, parameters)
    if given is not None:
        return _measured(given)
    if draft_len == BUILT_IN_NODES:
        return _BUILT_IN
    return DraftTree(draft_len, draft_len, 1, [[0] * length for length in range(1, draft_len + 1)])


def choices_key(method: str) -> str:
    """The parameter of the Triton model tensorrt_llm that holds the tree."""
    return f"{method}_choices"


def given_choices(method: str, parameters: Mapping[str, Any]) -> list[list[int]] | None:
    """The tree that `serve.engine_parameters` give; None for none, and for what is no tree."""
    value = parameters.get(choices_key(method))
    return value if isinstance(value, list) and value and all(map(_is_path, value)) else None


def orphans(choices: list[list[int]]) -> list[list[int]]:
    """Nodes whose predecessor is not in the tree; TensorRT-LLM would hang them under the root."""
    known = {tuple(path) for path in choices} | {()}
    return [path for path in choices if tuple(path[:-1]) not in known]


def _measured(choices: list[list[int]]) -> DraftTree:
    parents = Counter(len(path) for path in {tuple(path[:-1]) for path in choices})
    return DraftTree(
        nodes=len(choices),
        depth=max(map(len, choices)),
        widest=max(parents.values()),
        choices=choices,
    )


def _is_path(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value)
    )
