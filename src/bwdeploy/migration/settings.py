"""Applies the table of engine settings to a recipe; what does not come through is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bwdeploy.facts.build_flags import build_flags, former_flags
from bwdeploy.facts.engine_to_pytorch import BUILD, changed_defaults, former_template_key, setting_row
from bwdeploy.facts.triton_templates import template_keys
from bwdeploy.migration.found import Note
from bwdeploy.migration.values import ValueMisfitError, value_of, word_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bwdeploy.facts.engine_to_pytorch import SettingRow
    from bwdeploy.migration.deployment import Setting
    from bwdeploy.migration.draft import RecipeDraft
    from bwdeploy.migration.found import Effect

_FLAGS = ("engine", "build_flags")
_UNKNOWN = "neither trtllm-build nor the Triton models of an engine have it, as far as is known"


def put_for_engines(draft: RecipeDraft, settings: Iterable[Setting]) -> None:
    """Write `settings` into a recipe with backend tensorrt: options, template keys, or their own sections."""
    for setting in settings:
        row, value = _understood(draft, setting)
        if row is None or row.engine == "derived" or (setting.group != BUILD and value in row.quiet):
            continue
        if row.engine in {"changed", "no-effect", "lost"}:
            effect = cast("Effect", row.engine)
            draft.note(
                Note(effect, setting.place, setting.value, row.engine_why, row.engine_hint, row.source)
            )
            continue
        if row.engine_values is not None:
            value = row.engine_values.get(word_of(value), value)
        path = _kept_at(setting) if row.engine == "keep" else tuple(row.engine.split("."))
        if value is not None and not _is_default(path, value):
            _put_once(draft, path, value, setting)
    _drop_lonely_draft_length(draft)


def put_for_pytorch(draft: RecipeDraft, settings: Sequence[Setting]) -> None:
    """Write `settings` into a recipe with backend pytorch, and note what nobody set and changes all the same.

    LLM API arguments are spelled as in TensorRT-LLM 1.2.1.
    """
    for setting in settings:
        row, value = _understood(draft, setting)
        if row is None or row.engine == "derived" or value in row.quiet:
            continue
        if row.use:
            _put_translated(draft, setting, row, value)
        else:
            draft.note(Note(row.effect, setting.place, setting.value, row.why, row.hint, row.source))
    said = {setting.name for setting in settings}
    for default in changed_defaults():
        if not said & set(default.unless):
            note = Note(
                "changed",
                f"{default.key} (not set)",
                None,
                default.message,
                f"now {default.now}" if default.now else "",
            )
            draft.note(note._replace(source=default.source))


def _understood(draft: RecipeDraft, setting: Setting) -> tuple[SettingRow | None, Any]:
    """The row of a setting and its value of the right kind; noted when there is none."""
    row = setting_row(setting.group, setting.key, word_of(setting.value))
    if row is None:
        draft.note(_unknown(setting))
        return None, None
    flags, keys = build_flags(), template_keys()
    known = flags.get(setting.key) if setting.group == BUILD else keys.get(setting.key)
    try:
        return row, value_of(known.kind if known else "text", setting.value)
    except ValueMisfitError as misfit:
        message = f"{setting.key} should be {misfit}, so that nobody knows what this did"
        draft.note(Note("lost", setting.place, setting.value, message, "set it in the recipe by hand"))
        return None, None


def _unknown(setting: Setting) -> Note:
    gone = former_template_key(setting.key) if setting.group != BUILD else None
    if gone is not None:
        return Note(gone.effect, setting.place, setting.value, gone.why, gone.hint)
    former = former_flags().get(setting.key) if setting.group == BUILD else None
    if former is not None:
        effect: Effect = "lost" if former.effect == "lost" else "no-effect"
        return Note(effect, setting.place, setting.value, former.fate)
    return Note("lost", setting.place, setting.value, _UNKNOWN, "look it up in the version that had it")


def _drop_lonely_draft_length(draft: RecipeDraft) -> None:
    """Without a way of drafting that came through, its length would only take memory."""
    flags = draft.get(_FLAGS) or {}
    if "max_draft_len" in flags and "speculative_decoding_mode" not in flags:
        value, place = flags.pop("max_draft_len"), draft.comments.pop((*_FLAGS, "max_draft_len"), "")
        draft.note(Note("lost", place, value, "nothing drafts in this recipe"))
        if not flags:
            draft.data["engine"].pop("build_flags")


def _is_default(path: tuple[str, ...], value: Any) -> bool:  # noqa: ANN401 - JSON data
    """Whether `path` is an option of trtllm-build and `value` what it is without a word."""
    flag = build_flags().get(path[-1]) if path[:2] == _FLAGS else None
    return flag is not None and flag.default is not None and bool(value == flag.default)


def _kept_at(setting: Setting) -> tuple[str, ...]:
    section = _FLAGS if setting.group == BUILD else ("serve", "engine_parameters")
    return (*section, setting.key)


def _put_once(draft: RecipeDraft, path: tuple[str, ...], value: Any, setting: Setting) -> None:  # noqa: ANN401
    """Two models may say the same key: the first wins, and another value is noted."""
    before = draft.get(path)
    if before is None:
        draft.put(path, value, setting.place)
    elif before != value:
        message = f"another model says {word_of(before)}, which the recipe keeps"
        draft.note(Note("lost", setting.place, setting.value, message, "set one of the two in the recipe"))


def _put_translated(draft: RecipeDraft, setting: Setting, row: SettingRow, value: Any) -> None:  # noqa: ANN401
    if row.values is not None:
        if word_of(value) not in row.values:
            message = f"{'.'.join(row.use)} has no word for {word_of(value)}"
            draft.note(Note("lost", setting.place, setting.value, message, row.hint, row.source))
            return
        value = row.values[word_of(value)]
    _put_once(draft, row.use, value, setting)
    message = f"it is {'.'.join(row.use)} now" + (f"; {row.why}" if row.why else "")
    draft.note(Note(row.effect, setting.place, setting.value, message, row.hint, row.source))
