"""A Truss of inference stack v2, which serves on the PyTorch backend.

`runtime` and its patch_kwargs are LLM API arguments, `build` only names the model and its quantization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.migration import truss_file
from bwdeploy.migration.draft import SECTIONS, RecipeDraft
from bwdeploy.migration.found import Note
from bwdeploy.migration.layout import put_gpu
from bwdeploy.migration.llm_api_recipe import LlmApiDeployment, llm_api_recipe
from bwdeploy.migration.quantization import put_quantization
from bwdeploy.migration.truss_file import mapping_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bwdeploy.migration.deployment import Quantized
    from bwdeploy.migration.found import Found, Wanted

_RUNTIME = (
    "max_seq_len",
    "max_batch_size",
    "max_num_tokens",
    "tensor_parallel_size",
    "enable_chunked_prefill",
)
_DEFAULTS = {"max_batch_size": 256, "max_num_tokens": 8192, "enable_chunked_prefill": True}
"""What Truss sets unless told otherwise."""
_PLACE = "trt_llm.runtime"
_PATCH, _ENGINE_CONFIG = "patch_kwargs", "engine_config"


def read_v2(file: Path, config: Mapping[str, Any], wanted: Wanted) -> Found:
    """The Truss whose config.yaml `file` holds `config` as a recipe.

    Raises:
        RecipeError: arguments cannot be translated to the version that is wanted.
    """
    section = mapping_at(config, truss_file.SECTION)
    build, runtime = mapping_at(section, "build"), mapping_at(section, "runtime")
    repository = mapping_at(build, "checkpoint_repository")
    source, name = str(repository.get("source") or "").upper(), str(repository.get("repo") or "")
    deployment = LlmApiDeployment(
        kind="Truss config.yaml, inference stack v2 (PyTorch backend)",
        file=file,
        arguments=_arguments(runtime, repository),
        model=name if source == "HF" else "",
        model_path=name if source == "LOCAL" else "",
        name=truss_file.model_name(config, file),
        environment={key: str(value) for key, value in mapping_at(config, "environment_variables").items()},
        notes=(*truss_file.shared_notes(config), *_patch_notes(runtime)),
    )
    found, (gpu, _) = llm_api_recipe(deployment, wanted), truss_file.accelerator(config)
    return _with_section(found, truss_file.quantized_of(build), gpu)


def _with_section(found: Found, quantized: Quantized, gpu: str) -> Found:
    """`found` with what Truss says in `build` and `resources`: a format that it makes itself, and the GPU."""
    draft = RecipeDraft()
    draft.data, draft.comments = dict(found.recipe), dict(found.comments)
    draft.note(*found.notes)
    if gpu:
        put_gpu(draft, gpu)
    if quantized.algorithm:
        draft.data["quantize"] = {}
        draft.comments = {path: text for path, text in draft.comments.items() if path[0] != "quantize"}
        draft.notes = [note for note in draft.notes if note.key != "quantize.method"]
        put_quantization(draft, quantized, model=draft.get(("model", "source")) or "")
    return found._replace(recipe=draft.in_order(SECTIONS), comments=draft.comments, notes=tuple(draft.notes))


def _arguments(runtime: Mapping[str, Any], repository: Mapping[str, Any]) -> dict[str, Any]:
    """`engine_config` of patch_kwargs is handed to the server as it is, so that it wins."""
    said = {key: runtime[key] for key in _RUNTIME if runtime.get(key) is not None}
    revision = {"revision": repository["revision"]} if repository.get("revision") else {}
    return {**_DEFAULTS, **said, **revision, **_engine_config(runtime)}


def _engine_config(runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping_at(mapping_at(runtime, _PATCH), _ENGINE_CONFIG)


def _patch_notes(runtime: Mapping[str, Any]) -> Iterator[Note]:
    for key, value in mapping_at(runtime, _PATCH).items():
        if key != _ENGINE_CONFIG:
            message = "it belongs to the hosting service's own server"
            yield Note("lost", f"{_PLACE}.{_PATCH}.{key}", value, message)
