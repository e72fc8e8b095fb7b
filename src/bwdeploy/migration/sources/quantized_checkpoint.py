"""A checkpoint that ModelOpt quantized (hf_quant_config.json beside the model) → a recipe that serves it.

The checkpoint says nothing of how it was served: layout and sizes are a recipe's own, and noted so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bwdeploy.migration.draft import SECTIONS, RecipeDraft
from bwdeploy.migration.files import peek_object, read_object, source_error
from bwdeploy.migration.found import Found, Note, Wanted
from bwdeploy.migration.layout import put_ranks
from bwdeploy.migration.naming import recipe_name
from bwdeploy.migration.versions import put_target, target_version
from bwdeploy.migration.weights import given_source
from bwdeploy.recipe.uris import FILE_SCHEME

if TYPE_CHECKING:
    from pathlib import Path

_QUANTIZED = "hf_quant_config.json"


def recognizes(path: Path) -> bool:
    """Whether `path` is a checkpoint with hf_quant_config.json, or that file."""
    file = path / _QUANTIZED if path.is_dir() else path
    return file.name == _QUANTIZED and file.is_file() and "quantization" in peek_object(file)


def read(path: Path, wanted: Wanted) -> Found:
    """The checkpoint as a recipe.

    Raises:
        RecipeError: hf_quant_config.json cannot be used, or engines are wanted.
    """
    directory = path if path.is_dir() else path.parent
    if wanted.backend == "tensorrt":
        hint = "name the bf16 model with --model in a recipe of your own: an engine is quantized from it"
        raise source_error(path, "trtllm-build does not read a quantized Hugging Face checkpoint", hint)
    told = read_object(directory / _QUANTIZED)
    draft = RecipeDraft()
    target = target_version("", wanted, backend="pytorch")
    draft.put(("schema",), 1)
    draft.put(("name",), recipe_name(wanted.name or directory.absolute().name))
    source = (
        given_source(wanted.model) if wanted.model else FILE_SCHEME + os.path.normpath(directory.absolute())
    )
    draft.put(("model", "source"), source)
    draft.put(("quantize", "method"), "prequantized", _words(told))
    draft.put(("engine", "backend"), "pytorch")
    put_target(draft, target, backend="pytorch")
    put_ranks(draft, tp=1, pp=1, gpu="", place="assumed: the checkpoint does not say")
    hint = "set layout.gpu, layout.tp and layout.gpus_per_node, or layout: auto"
    message = "a checkpoint says nothing of the GPUs that serve it; the recipe has one"
    sizes = "a checkpoint says nothing of sizes; the recipe has its own defaults"
    size_hint = "set engine.max_batch_size, engine.max_num_tokens and engine.max_seq_len"
    draft.note(
        Note("assumed", "layout", None, message, hint),
        Note("assumed", "engine", None, sizes, size_hint),
    )
    return Found(
        kind=f"quantized checkpoint ({_words(told)})",
        recipe=draft.in_order(SECTIONS),
        comments=draft.comments,
        notes=tuple(draft.notes),
    )


def _words(told: dict[str, Any]) -> str:
    """What the checkpoint says of itself: `NVFP4, KV cache FP8, by modelopt 0.33`."""
    quantization, producer = told.get("quantization"), told.get("producer")
    words = quantization if isinstance(quantization, dict) else {}
    text = str(words.get("quant_algo") or "mixed")
    if words.get("kv_cache_quant_algo"):
        text += f", KV cache {words['kv_cache_quant_algo']}"
    if isinstance(producer, dict) and producer.get("name"):
        text += f", by {producer['name']} {producer.get('version', '')}".rstrip()
    return text
