"""A recipe of the PyTorch backend, moved to the engine backend: `migrate --to tensorrt`.

Arguments with a counterpart are read backwards from the table that leads to the PyTorch backend; the others
are lost, and so is drafting, which engines do in other ways.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from bwdeploy.facts.engine_to_pytorch import BUILD, known_settings, setting_row
from bwdeploy.migration.draft import SECTIONS, RecipeDraft
from bwdeploy.migration.found import Note
from bwdeploy.migration.versions import DEFAULT, target_version

if TYPE_CHECKING:
    from bwdeploy.migration.found import Found, Wanted

_ARGUMENTS = ("engine", "llm_args")
_MAPPINGS = frozenset({"kv_cache_config", "scheduler_config", "peft_cache_config", "lora_config"})
"""Arguments whose members have counterparts of their own."""
_OF_THE_PYTHON_MODEL = ("server", "max_running", "flush_tokens", "flush_interval_ms")
"""Settings of `serve` that the models of an engine do not have."""
_LOST = "engines have no setting that stands for this LLM API argument"


def to_engines(found: Found, wanted: Wanted) -> Found:
    """`found` with backend tensorrt, as far as engines can do it."""
    draft = RecipeDraft()
    draft.data, draft.comments = copy.deepcopy(found.recipe), dict(found.comments)
    draft.note(*found.notes)
    engine = draft.data.setdefault("engine", {})
    arguments: dict[str, Any] = engine.pop("llm_args", {})
    draft.comments = {path: text for path, text in draft.comments.items() if path[:2] != _ARGUMENTS}
    _lose_drafting(draft)
    target = target_version(engine.get("tensorrt_llm", DEFAULT), wanted, backend="tensorrt")
    draft.put(("engine", "backend"), "tensorrt", "as asked for")
    draft.put(("engine", "tensorrt_llm"), target.version, target.comment)
    for key in _OF_THE_PYTHON_MODEL:
        draft.data.get("serve", {}).pop(key, None)
    draft.note(*target.notes)
    for path, value in _members(arguments):
        _put_back(draft, path, value)
    return found._replace(
        recipe=draft.in_order((*SECTIONS, *(key for key in draft.data if key not in SECTIONS))),
        comments=draft.comments,
        notes=tuple(draft.notes),
    )


def _members(arguments: dict[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """Each argument, and each member of a mapping that is no setting by itself."""
    members: list[tuple[tuple[str, ...], Any]] = []
    for key, value in arguments.items():
        if key in _MAPPINGS and isinstance(value, dict):
            members += [((key, below), one) for below, one in value.items()]
        else:
            members.append(((key,), value))
    return members


def _put_back(draft: RecipeDraft, path: tuple[str, ...], value: Any) -> None:  # noqa: ANN401 - JSON data
    """Write an argument where engines say it, or note that they do not."""
    key = ".".join(path)
    for group, name in known_settings():
        row = setting_row(group, name)
        if row is None or row.effect != "renamed" or row.use != (*_ARGUMENTS, *path):
            continue
        said = value if row.values is None else _backwards(row.values, value)
        section = ("engine", "build_flags") if group == BUILD else ("serve", "engine_parameters")
        if row.engine == "keep" and said is not None:
            draft.put((*section, name), said, f"was llm_args.{key}")
            draft.note(Note("renamed", f"llm_args.{key}", value, f"it is {section[-1]}.{name} now"))
            return
    hint = "set quantize.kv_cache, together with a quantize.format" if key == "kv_cache_config.dtype" else ""
    draft.note(Note("lost", f"llm_args.{key}", value, _LOST, hint))


def _backwards(values: Any, value: Any) -> Any:  # noqa: ANN401 - JSON data
    return next((word for word, said in values.items() if said == value), None)


def _lose_drafting(draft: RecipeDraft) -> None:
    drafting = draft.data.pop("speculative", None)
    draft.comments = {path: text for path, text in draft.comments.items() if path[:1] != ("speculative",)}
    if drafting:
        message = "EAGLE-3 and MTP drafts run on the PyTorch backend only"
        hint = (
            "engines draft with speculative.method eagle or medusa and heads of that kind, or with "
            "engine.build_flags.speculative_decoding_mode: lookahead_decoding"
        )
        draft.note(Note("lost", "speculative", drafting, message, hint))
