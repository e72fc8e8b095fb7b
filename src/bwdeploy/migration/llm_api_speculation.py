"""The section `speculative` of a recipe, from `speculative_config` of the LLM API.

MTP and EAGLE-3 have a section; other kinds of drafting stay arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.speculation import DRAFT_KEYS, LENGTH_KEYS
from bwdeploy.migration.found import Note
from bwdeploy.migration.weights import source_of_place
from bwdeploy.recipe.uris import FILE_SCHEME

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.migration.draft import RecipeDraft

_METHODS = {"MTP": "mtp", "Eagle": "eagle3", "Eagle3": "eagle3"}
_DEFAULT_LENGTHS = {"mtp": 1, "eagle3": 3}
"""MTP: what TensorRT-LLM takes. EAGLE-3: it must be said; a recipe's own default."""


def put_speculation(draft: RecipeDraft, arguments: dict[str, Any], *, start: Path) -> None:
    """Move method, length and draft out of `arguments`, which belong to the recipe's TensorRT-LLM."""
    config = arguments.get("speculative_config")
    kind = config.get("decoding_type") if isinstance(config, dict) else None
    method = _METHODS.get(kind) if isinstance(kind, str) else None
    if method is None or not isinstance(config, dict):
        return
    draft.put(("speculative", "method"), method)
    lengths = [config.pop(key, None) for key in LENGTH_KEYS]
    drafts = [config.pop(key, None) for key in DRAFT_KEYS]
    if method == "eagle3" and (place := next((one for one in drafts if isinstance(one, str)), "")):
        draft.put(("speculative", "draft"), *_draft_source(draft, place, start))
    length = next((one for one in lengths if isinstance(one, int)), None)
    draft.put(("speculative", "draft_len"), length or _DEFAULT_LENGTHS[method])
    if length is None:
        message = f"not said; {_DEFAULT_LENGTHS[method]} is what counts then"
        draft.note(
            Note("assumed", "speculative_config.max_draft_len", None, message, "set speculative.draft_len")
        )
    if set(config) <= {"decoding_type"}:
        del arguments["speculative_config"]


def _draft_source(draft: RecipeDraft, place: str, start: Path) -> tuple[str, str]:
    source = source_of_place(place, start=start)
    if source:
        return source, ""
    message = "a directory of the machine or container that served; it is not on this one"
    hint = "set speculative.draft: hf://org/draft@<40-hex revision>, or put the draft there"
    draft.note(Note("assumed", "speculative_config.speculative_model", place, message, hint))
    return FILE_SCHEME + place, "of the machine that served: put in where it lies now"
