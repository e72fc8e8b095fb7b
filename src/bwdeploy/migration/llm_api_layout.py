"""The section `layout` of a recipe, from the LLM API's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.migration.found import Note
from bwdeploy.migration.layout import put_ranks

if TYPE_CHECKING:
    from bwdeploy.migration.draft import RecipeDraft

_USUAL_GPUS = 8
"""Of one machine, where nobody says it."""


def put_llm_api_layout(draft: RecipeDraft, arguments: dict[str, Any]) -> None:
    """Move the ranks out of `arguments` and into the recipe, with as many GPUs as they need."""
    tp, pp = _taken(arguments, "tensor_parallel_size"), _taken(arguments, "pipeline_parallel_size")
    ep, given = _taken(arguments, "moe_expert_parallel_size"), arguments.pop("gpus_per_node", None)
    if tp is None:
        message = "not said; the LLM API's default is one GPU, and so has the recipe"
        draft.note(
            Note("assumed", "tensor_parallel_size", None, message, "set layout.tp and layout.gpus_per_node")
        )
    gpus = given if isinstance(given, int) and given > 0 else _USUAL_GPUS
    put_ranks(draft, tp=tp or 1, pp=pp or 1, gpu="", place="" if tp else "assumed", gpus_per_node=gpus)
    if ep and ep > 0:
        draft.put(("layout", "ep"), ep)
    if arguments.pop("enable_attention_dp", None) is True:
        draft.put(("layout", "attention_dp"), value=True)


def _taken(arguments: dict[str, Any], key: str) -> int | None:
    value = arguments.pop(key, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
