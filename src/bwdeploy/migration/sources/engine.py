"""An engine directory, or the config.json of one: everything that it was built with, but not its model.

config.json holds every setting, mostly at its default; those are left out here, so that the recipe says what
somebody chose. Engine files are counted, never opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.engines.checkpoint import is_engine
from bwdeploy.engines.comparison import room_for_drafts
from bwdeploy.engines.directory import EngineDirectory, read_engine
from bwdeploy.engines.document import EngineError
from bwdeploy.facts.build_flags import BuildFlag, build_flags, former_flags
from bwdeploy.facts.engine_to_pytorch import BUILD
from bwdeploy.migration.deployment import EngineDeployment, Quantized, Setting, WeightsClue
from bwdeploy.migration.engine_recipe import engine_recipe
from bwdeploy.migration.files import peek_object, source_error
from bwdeploy.migration.found import Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bwdeploy.migration.found import Found, Wanted

_BUILD_KEYS = {
    "max_batch_size": "max_batch_size",
    "max_num_tokens": "max_num_tokens",
    "max_seq_len": "max_seq_len",
    "max_input_len": "max_input_len",
    "max_beam_width": "max_beam_width",
    "opt_num_tokens": "opt_num_tokens",
    "max_encoder_input_len": "max_encoder_input_len",
    "max_prompt_embedding_table_size": "max_prompt_embedding_table_size",
    "kv_cache_type": "kv_cache_type",
    "profiling_verbosity": "profiling_verbosity",
    "use_strip_plan": "strip_plan",
    "weight_sparsity": "weight_sparsity",
    "weight_streaming": "weight_streaming",
    "enable_debug_output": "enable_debug_output",
    "monitor_memory": "monitor_memory",
    "gather_context_logits": "gather_context_logits",
    "gather_generation_logits": "gather_generation_logits",
}
"""Key of build_config → option of trtllm-build."""
_OLD = "builder_config"
"""What engines before 0.9 have in place of build_config; the reader says so."""
_FORMER = {"enable_xqa": True}
"""Options that are gone and were on by default."""
_LORA_KEYS = ("lora_dir", "lora_ckpt_source", "lora_target_modules", "max_lora_rank")
_ENGINE = "tensorrt_llm/builder.py (EngineConfig)"


def recognizes(path: Path) -> bool:
    """Whether `path` is an engine directory or the config.json of one; also one too old to be read."""
    return is_engine(path) or _OLD in peek_object(path / "config.json" if path.is_dir() else path)


def read(path: Path, wanted: Wanted) -> Found:
    """The engine at `path` as a recipe.

    Raises:
        RecipeError: its config.json cannot be used.
    """
    return engine_recipe(engine_deployment(path), wanted)


def engine_deployment(path: Path) -> EngineDeployment:
    """The engine at `path`.

    Raises:
        RecipeError: its config.json cannot be used.
    """
    try:
        found = read_engine(path)
    except EngineError as error:
        raise source_error(path, error.message, error.hint) from None
    place = "pretrained_config.mapping"
    return EngineDeployment(
        kind=f"engine of TensorRT-LLM {found.version or 'of an unknown version'}",
        name=found.file.absolute().parent.name,
        version=found.version or "",
        weights=WeightsClue(shape=found.pretrained_config),
        quantized=Quantized(
            found.quant_algo or "",
            found.kv_cache_quant_algo or "",
            "pretrained_config.quantization.quant_algo",
        ),
        tp=found.mapping.tp,
        pp=found.mapping.pp,
        ep=found.mapping.moe_ep,
        gpus_per_node=_gpus_per_node(found.pretrained_config),
        layout_place=place,
        settings=tuple(_settings(found)),
        notes=tuple(_missing_ranks(found)),
    )


def _settings(found: EngineDirectory) -> Iterator[Setting]:
    sizes = {name: found.build_config.get(name) for name in _BUILD_KEYS}
    if found.speculative_mode != "none" and found.max_seq_len is not None:
        added = room_for_drafts(found, mode=found.speculative_mode, drafted=found.max_draft_len)
        sizes["max_seq_len"] = found.max_seq_len - added
    for key, option in _BUILD_KEYS.items():
        value = _build_value(found, option, sizes[key])
        if value is not None:
            yield Setting(BUILD, option, value, f"build_config.{key}")
    if found.speculative_mode != "none":
        mode_place = "build_config.speculative_decoding_mode"
        yield Setting(BUILD, "speculative_decoding_mode", found.speculative_mode, mode_place)
    if found.max_draft_len:
        yield Setting(BUILD, "max_draft_len", found.max_draft_len, "build_config.max_draft_len")
    yield from _plugin_settings(found)
    yield from _lora_settings(found)


def _build_value(found: EngineDirectory, option: str, value: Any) -> Any:  # noqa: ANN401 - JSON data
    """The value of an option when somebody chose it, else None."""
    flag = build_flags()[option]
    if option == "kv_cache_type" and isinstance(value, str):
        value = value.rpartition(".")[2].lower()  # written as PAGED, or as KVCacheType.PAGED
        return None if value == "paged" else value
    if option == "opt_num_tokens" and _is_computed_optimum(found, value):
        return None
    if option == "max_encoder_input_len" and value == 1:
        return None  # what a model without an encoder gets
    is_size = option in {"max_batch_size", "max_num_tokens", "max_seq_len"}
    return value if is_size or value != _default(flag) else None


def _is_computed_optimum(found: EngineDirectory, value: object) -> bool:
    """Whether trtllm-build came to it by itself: it refuses one that is given with several profiles."""
    several = bool(found.plugin_config.get("multiple_profiles"))
    return several or value == (found.max_batch_size or 0) * (found.max_beam_width or 1)


def _plugin_settings(found: EngineDirectory) -> Iterator[Setting]:
    known = build_flags()
    for key, value in found.plugin_config.items():
        place = f"build_config.plugin_config.{key}"
        flag = known.get("fast_build" if key == "manage_weights" else key)
        if flag is not None and key != "paged_kv_cache":
            said = _plugin_value(found, flag, value)
            if said is not None:
                yield Setting(BUILD, flag.name, said, place)
        elif _was_chosen(key, value):
            yield Setting(BUILD, key, value, place)


def _was_chosen(key: str, value: object) -> bool:
    """Whether somebody chose a value of an option that is gone, and it meant something."""
    former = former_flags().get(key)
    return former is not None and former.effect == "lost" and bool(value) and value != _FORMER.get(key)


def _plugin_value(found: EngineDirectory, flag: BuildFlag, value: Any) -> Any:  # noqa: ANN401 - JSON data
    """A plugin setting as trtllm-build takes it, None when nobody chose it."""
    if {"enable", "disable"} <= set(flag.choices) and isinstance(value, bool):
        value = "enable" if value else "disable"
    if flag.name == "paged_state" and value == "disable":
        return None  # trtllm-build switches it off for every model without states
    if value is None:
        return None if flag.default is None or flag.name == "nccl_plugin" else _unless(flag, "disable")
    if flag.default == "auto" and value == found.plugin_config.get("dtype", found.dtype):
        return None  # what auto became
    return _unless(flag, value)


def _unless(flag: BuildFlag, value: Any) -> Any:  # noqa: ANN401 - JSON data
    return None if value == _default(flag) else value


def _default(flag: BuildFlag) -> Any:  # noqa: ANN401 - JSON data
    """What stands in config.json when the option was not given."""
    return False if flag.kind == "switch" else flag.default


def _lora_settings(found: EngineDirectory) -> Iterator[Setting]:
    """LoRA keys stand there always, and mean something with the plugin only."""
    lora = found.build_config.get("lora_config")
    if not found.plugin_config.get("lora_plugin") or not isinstance(lora, dict):
        return
    for key in _LORA_KEYS:
        if lora.get(key) not in (None, [], _default(build_flags()[key])):
            yield Setting(BUILD, key, lora[key], f"build_config.lora_config.{key}")


def _gpus_per_node(pretrained: Mapping[str, Any]) -> int:
    mapping = pretrained.get("mapping")
    found = mapping.get("gpus_per_node") if isinstance(mapping, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 8


def _missing_ranks(found: EngineDirectory) -> Iterator[Note]:
    if found.missing_ranks:
        names = ", ".join(found.missing_files[:8])
        message = "the directory lacks engine files that its config.json asks for; a build makes all of them"
        yield Note("assumed", "engine files", names, message, source=_ENGINE)
