"""Arguments that the target version, or a recipe, would refuse: taken out, each with a note that says why."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.llm_args import check_llm_args
from bwdeploy.migration.found import Note
from bwdeploy.recipe.places import dotted

if TYPE_CHECKING:
    from bwdeploy.checks.llm_args import ArgProblem
    from bwdeploy.recipe.places import KeyPath

_SAID_BY_THE_RECIPE = {"said-elsewhere"}
"""Kinds that the reader of a source deals with: sizes and layout have places of their own."""
_ONLY_WARNED_OF = {"deprecated", "unlisted-value", "names-host"}
_MAX_ROUNDS = 100
_SOURCE = "tensorrt_llm/llmapi/llm_args.py"


def without_refused(arguments: dict[str, Any], version: str) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """`arguments` without what a recipe for `version` may not say; all of them where no list is known.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    kept, notes = copy.deepcopy(arguments), []
    for _ in range(_MAX_ROUNDS):
        problem = _first_refusal(kept, version)
        if problem is None:
            break
        value = _removed(kept, problem.path)
        hint = "" if problem.hint.startswith("remove it") else problem.hint
        notes.append(Note("lost", dotted(problem.path), value, problem.message, hint, _SOURCE))
    return kept, tuple(notes)


def _first_refusal(arguments: dict[str, Any], version: str) -> ArgProblem | None:
    for problem in check_llm_args(version, arguments):
        warned = problem.kind in _ONLY_WARNED_OF or problem.severity == "warning"
        if not warned and problem.kind not in _SAID_BY_THE_RECIPE and problem.path:
            return problem
    return None


def _removed(arguments: dict[str, Any], path: KeyPath) -> Any:  # noqa: ANN401 - JSON data
    """Take out the value at `path`; a list or mapping that is left empty by it goes too."""
    at: Any = arguments
    for part in path[:-1]:
        at = at[part]
    value = at.pop(path[-1])
    if not at and len(path) > 1:
        _removed(arguments, path[:-1])
    return value
