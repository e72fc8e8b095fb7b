"""An engine deployment → a recipe, on the engine backend as it is or on the PyTorch backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.build_flags import build_flags
from bwdeploy.facts.engine_to_pytorch import BUILD
from bwdeploy.migration.deployment import Setting
from bwdeploy.migration.draft import SECTIONS, RecipeDraft
from bwdeploy.migration.found import Found, Note
from bwdeploy.migration.layout import put_layout
from bwdeploy.migration.naming import recipe_name
from bwdeploy.migration.quantization import put_quantization
from bwdeploy.migration.settings import put_for_engines, put_for_pytorch
from bwdeploy.migration.values import ValueMisfitError, value_of
from bwdeploy.migration.versions import DEFAULT, put_max_running, put_target, target_version
from bwdeploy.migration.weights import hub_models_of, put_model
from bwdeploy.model.describe import describe_source
from bwdeploy.recipe.uris import file_of

if TYPE_CHECKING:
    from bwdeploy.migration.deployment import EngineDeployment
    from bwdeploy.migration.found import Wanted

_MODE, _LENGTH = "speculative_decoding_mode", "max_draft_len"
_SIZES = ("max_batch_size", "max_num_tokens", "max_seq_len")


def engine_recipe(deployment: EngineDeployment, wanted: Wanted) -> Found:
    """The recipe of `deployment` on the backend that is wanted, by default the engine's own."""
    draft, backend = RecipeDraft(), wanted.backend or "tensorrt"
    draft.note(*deployment.notes)
    draft.put(("schema",), 1)
    draft.put(("name",), recipe_name(wanted.name or deployment.name))
    source = put_model(draft, deployment.weights, wanted)
    put_quantization(draft, deployment.quantized, model=source)
    target = target_version(deployment.version, wanted, backend=backend)
    draft.put(("engine", "backend"), backend, "as it was" if backend == "tensorrt" else "was engines")
    put_target(draft, target, backend=backend)
    _put_sizes(draft, deployment, source)
    put_layout(draft, deployment)
    rest = [one for one in deployment.settings if one.group != BUILD or one.key not in _SIZES]
    if backend == "tensorrt":
        put_for_engines(draft, _with_heads(draft, deployment, rest))
    else:
        put_for_pytorch(draft, [*_mode_of(deployment), *rest])
        _spell_for(draft, target.version)
        put_max_running(draft)
    return Found(
        kind=deployment.kind,
        recipe=draft.in_order(SECTIONS),
        comments=dict(draft.comments),
        notes=tuple(draft.notes),
        needs_model=not source,
        candidates=() if source else hub_models_of(deployment.weights.shape),
    )


def _with_heads(draft: RecipeDraft, deployment: EngineDeployment, rest: list[Setting]) -> list[Setting]:
    """Write the heads that are named, and return the settings without the options that they stand for."""
    heads = deployment.heads
    if heads is None:
        return rest
    said = deployment.build_value(_LENGTH)
    length = said if isinstance(said, int) and said > 0 else heads.draft_len
    draft.put(("speculative", "method"), heads.method, heads.place)
    draft.put(("speculative", "draft"), heads.draft)
    draft.put(("speculative", "draft_len"), length)
    if not _is_here(heads.draft):
        message = "a directory of the machine that converted them; it is not on this one"
        hint = "put the heads there, or set speculative.draft: file://DIR"
        draft.note(Note("assumed", heads.place, heads.draft, message, hint))
    draft.put(
        ("engine", "converter"), "tensorrt_llm", "draft heads are converted by TensorRT-LLM's own script"
    )
    return [one for one in rest if one.group != BUILD or one.key not in {_MODE, _LENGTH}]


def _is_here(source: str) -> bool:
    try:
        return file_of(source).is_dir()
    except (OSError, ValueError):
        return False


def _mode_of(deployment: EngineDeployment) -> list[Setting]:
    """The way of drafting as a setting, where only the converter was told it."""
    heads = deployment.heads
    if heads is None or deployment.setting(BUILD, _MODE):
        return []
    return [Setting(BUILD, _MODE, heads.method, heads.place)]


def _put_sizes(draft: RecipeDraft, deployment: EngineDeployment, source: str) -> None:
    for key in _SIZES:
        found = deployment.setting(BUILD, key)
        try:
            if found is not None and (size := value_of("whole", found.value)) > 0:
                draft.put(("engine", key), size, found.place)
                continue
        except ValueMisfitError as misfit:
            draft.note(
                Note("lost", found.place if found else key, found and found.value, f"it should be {misfit}")
            )
        _put_default_size(draft, key, source)


def _put_default_size(draft: RecipeDraft, key: str, source: str) -> None:
    """What trtllm-build takes when nobody says it: its default, or the model's own limit."""
    default, comment = build_flags()[key].default, "the default of trtllm-build"
    if key == "max_seq_len":
        shape = describe_source(source).shape if source else None
        default, comment = (shape.max_positions if shape else None), "the model's own limit"
    if default is None:
        message = "not said, and the model's own limit is not known here; the recipe's default stands"
        draft.note(Note("assumed", key, None, message, f"set engine.{key}"))
        return
    draft.put(("engine", key), default, comment)
    draft.note(Note("assumed", key, None, f"not said, so it was {comment}: {default}", f"set engine.{key}"))


def _spell_for(draft: RecipeDraft, version: str) -> None:
    """Spell the LLM API arguments, written as 1.2.1 has them, as `version` does."""
    arguments: dict[str, Any] | None = draft.get(("engine", "llm_args"))
    if not arguments or version == DEFAULT:
        return
    from bwdeploy.migration.arguments import translate  # noqa: PLC0415 - few migrations need it

    translated = translate(arguments, found=DEFAULT, target=version)
    draft.data["engine"]["llm_args"] = dict(translated.arguments)
    draft.note(*translated.notes)
