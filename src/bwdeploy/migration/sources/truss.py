"""A Truss config.yaml with `trt_llm:`; inference stack v1 builds engines, v2 serves on the PyTorch backend.

Keys as truss/base/trt_llm_config.py of basetenlabs/truss has them. What belongs to the hosting service, not
to the model server, is noted as lost.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bwdeploy.facts.engine_to_pytorch import BUILD
from bwdeploy.migration.deployment import EngineDeployment, Setting
from bwdeploy.migration.engine_recipe import engine_recipe
from bwdeploy.migration.files import peek, read_text, source_error
from bwdeploy.migration.found import Note
from bwdeploy.migration.truss_file import (
    SECTION,
    TRUSS,
    accelerator,
    count_at,
    mapping_at,
    model_name,
    quantized_of,
    shared_notes,
    weights_of,
)
from bwdeploy.recipe.document import parse_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bwdeploy.migration.found import Found, Wanted

_NO_TEXT = ("encoder", "whisper")
_FILES = ("config.yaml", "config.yml")
_BUILD_OPTIONS = (
    "max_seq_len", "max_batch_size", "max_num_tokens", "max_beam_width", "max_prompt_embedding_table_size",
    "gather_all_token_logits",
)  # fmt: skip
_SIZES = {"max_batch_size": 256, "max_num_tokens": 8192}
"""What Truss takes when nobody says it; trtllm-build and the LLM API have other defaults."""
_PLUGINS = ("use_paged_context_fmha", "use_fp8_context_fmha", "gemm_plugin", "paged_kv_cache")
_RUNTIME_KEYS = (
    "kv_cache_free_gpu_mem_fraction",
    "kv_cache_host_memory_bytes",
    "enable_chunked_context",
    "batch_scheduler_policy",
)
_RUNTIME_DEFAULTS = {"enable_chunked_context": True}
"""What Truss sets unless told otherwise, and the server's own default is not."""
_MODES = {
    "DRAFT_TOKENS_EXTERNAL": "draft_tokens_external",
    "LOOKAHEAD_DECODING": "lookahead_decoding",
    "BASETEN_LOOKAHEAD": "lookahead_decoding",
}
_LOOKAHEAD = {
    "lookahead_windows_size": "lookahead_window_size",
    "lookahead_ngram_size": "lookahead_ngram_size",
    "lookahead_verification_set_size": "lookahead_verification_set_size",
}


def recognizes(path: Path) -> bool:
    """Whether `path` is a Truss with `trt_llm`, or the config.yaml of one."""
    file = _file_of(path)
    return file is not None and re.search(rf"^{SECTION}\s*:", peek(file), re.MULTILINE) is not None


def read(path: Path, wanted: Wanted) -> Found:
    """The Truss at `path` as a recipe.

    Raises:
        RecipeError: it cannot be read, or lacks what every Truss has.
    """
    file = _file_of(path)
    if file is None:
        raise source_error(path, "there is no config.yaml here", "name the directory of a Truss")
    config = _parsed(file)
    section = mapping_at(config, SECTION)
    if "build" not in section:
        hint = "older ones with `serve` name a finished engine: migrate that engine directory"
        raise source_error(file, f"{SECTION} has no section build", hint)
    _require_text_model(file, mapping_at(section, "build"))
    if section.get("inference_stack") == "v2":
        from bwdeploy.migration.sources.truss_v2 import read_v2  # noqa: PLC0415 - half of all Trusses

        return read_v2(file, config, wanted)
    return engine_recipe(truss_deployment(file, config), wanted)


def truss_deployment(file: Path, config: Mapping[str, Any]) -> EngineDeployment:
    """The engine deployment of a Truss of inference stack v1."""
    section = mapping_at(config, SECTION)
    build, runtime = mapping_at(section, "build"), mapping_at(section, "runtime")
    gpu, count = accelerator(config)
    tp, pp = (count_at(build, key) for key in ("tensor_parallel_count", "pipeline_parallel_count"))
    return EngineDeployment(
        kind="Truss config.yaml, inference stack v1 (engines)",
        name=model_name(config, file),
        version=_version(section),
        weights=weights_of(build, file.parent),
        quantized=quantized_of(build),
        tp=tp,
        pp=pp,
        gpus_per_node=max(count, 1) if count >= tp * pp else 8,
        layout_place="trt_llm.build",
        gpu=gpu,
        settings=(*_build_settings(build), *_speculator_settings(build), *_runtime_settings(runtime)),
        notes=(
            *shared_notes(config),
            *_environment(config),
            *_speculator_notes(build),
        ),
    )


def _environment(config: Mapping[str, Any]) -> Iterator[Note]:
    for name, value in mapping_at(config, "environment_variables").items():
        message = "not carried over; a recipe takes TensorRT-LLM's own variables in engine.environment"
        yield Note("lost", name, str(value), message, f"export {name}={value} where the server starts")


def _build_settings(build: Mapping[str, Any]) -> Iterator[Setting]:
    for key in _BUILD_OPTIONS:
        if build.get(key) is not None:
            yield Setting(BUILD, key, build[key], f"trt_llm.build.{key}")
        elif key in _SIZES:
            yield Setting(BUILD, key, _SIZES[key], f"the default of trt_llm.build.{key}")
    yield from _plugin_settings(mapping_at(build, "plugin_configuration"))
    lora = mapping_at(build, "lora_configuration")
    if lora or build.get("lora_adapters"):
        yield Setting(BUILD, "lora_plugin", "auto", "trt_llm.build.lora_configuration")
    for key in ("max_lora_rank", "lora_target_modules"):
        if lora.get(key):
            yield Setting(BUILD, key, lora[key], f"trt_llm.build.lora_configuration.{key}")


def _plugin_settings(plugins: Mapping[str, Any]) -> Iterator[Setting]:
    for key, value in plugins.items():
        place = f"trt_llm.build.plugin_configuration.{key}"
        said = ("enable" if value else "disable") if isinstance(value, bool) else value
        if key == "paged_kv_cache":
            if value is False:
                yield Setting(BUILD, "kv_cache_type", "continuous", place)
        elif key in _PLUGINS or value not in (None, False):
            yield Setting(BUILD, key, said, place)


def _speculator_settings(build: Mapping[str, Any]) -> Iterator[Setting]:
    speculator, place = mapping_at(build, "speculator"), "trt_llm.build.speculator"
    if not speculator:
        return
    mode = str(speculator.get("speculative_decoding_mode") or "DRAFT_TOKENS_EXTERNAL")
    yield Setting(
        BUILD,
        "speculative_decoding_mode",
        _MODES.get(mode, mode.lower()),
        f"{place}.speculative_decoding_mode",
    )
    if length := speculator.get("num_draft_tokens") or _lookahead_length(speculator):
        yield Setting(BUILD, "max_draft_len", length, f"{place}.num_draft_tokens")
    for key, template_key in _LOOKAHEAD.items():
        if speculator.get(key) is not None:
            yield Setting("tensorrt_llm", template_key, speculator[key], f"{place}.{key}")
    if _MODES.get(mode) == "lookahead_decoding":
        yield Setting("tensorrt_llm", "decoding_mode", "lookahead", f"{place}.speculative_decoding_mode")


def _lookahead_length(speculator: Mapping[str, Any]) -> int | None:
    """Tokens that lookahead drafts at most: (w + v - 1)(n - 1) + n - 2, of one n-gram size none."""
    window, size, verified = (count_at(speculator, key) for key in _LOOKAHEAD)
    if not all(speculator.get(key) for key in _LOOKAHEAD):
        return None
    return (size - 2 if size > 1 else 0) + (window - 1 + verified) * (size - 1)


def _speculator_notes(build: Mapping[str, Any]) -> Iterator[Note]:
    speculator, place = mapping_at(build, "speculator"), "trt_llm.build.speculator"
    draft = mapping_at(speculator, "checkpoint_repository") or mapping_at(
        mapping_at(speculator, "build"), "checkpoint_repository"
    )
    if draft:
        message = "the drafting model is an engine of its own, and a recipe describes one"
        yield Note(
            "lost",
            f"{place}.checkpoint_repository",
            draft.get("repo"),
            message,
            "migrate it as a recipe of its own",
        )
    if (
        speculator.get("enable_b10_lookahead")
        or speculator.get("speculative_decoding_mode") == "BASETEN_LOOKAHEAD"
    ):
        message = "this way of lookahead is the hosting service's own"
        yield Note("lost", place, "enable_b10_lookahead", message, source=TRUSS)


def _require_text_model(file: Path, build: Mapping[str, Any]) -> None:
    """Refuse models for embeddings, classes and speech: a recipe of one would pass, and serve nothing.

    Raises:
        RecipeError: it is one.
    """
    base = str(build.get("base_model") or "")
    if base.startswith(_NO_TEXT):
        message = (
            f"trt_llm.build.base_model {base}: a recipe serves models that write text, and this one does not"
        )
        raise source_error(file, message, "leave it where it runs; only decoders can be migrated")


def _runtime_settings(runtime: Mapping[str, Any]) -> Iterator[Setting]:
    for key in _RUNTIME_KEYS:
        if runtime.get(key) is not None:
            yield Setting("tensorrt_llm", key, runtime[key], f"trt_llm.runtime.{key}")
        elif key in _RUNTIME_DEFAULTS:
            yield Setting(
                "tensorrt_llm", key, _RUNTIME_DEFAULTS[key], f"the default of trt_llm.runtime.{key}"
            )


def _version(section: Mapping[str, Any]) -> str:
    found = mapping_at(section, "version_overrides").get("engine_builder_version")
    return found if isinstance(found, str) else ""


def _file_of(path: Path) -> Path | None:
    if path.is_dir():
        return next((path / name for name in _FILES if (path / name).is_file()), None)
    return path if path.is_file() and path.suffix in {".yaml", ".yml"} else None


def _parsed(file: Path) -> Mapping[str, Any]:
    data = parse_document(read_text(file), file=str(file)).data
    if not isinstance(data, dict):
        raise source_error(file, "this YAML is no mapping", "name the config.yaml of a Truss")
    return data
