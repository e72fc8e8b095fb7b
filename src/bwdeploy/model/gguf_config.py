"""The configuration that a GGUF file's metadata amounts to, in the words of a Hugging Face config.json.

Only the families that llama.cpp stores under the same layer as transformers: enough for what a quickstart
converts. For any other the answer is an error that names it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bwdeploy.model.gguf_header import GgufError, GgufHeader, parse_header
from bwdeploy.model.problem import ShapeError
from bwdeploy.places import cache_directory

if TYPE_CHECKING:
    from pathlib import Path

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}
_KEYS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "rope_theta": "rope.freq_base",
}
_MEMORY_VERSION = 1
"""Raised when the same file would now give another configuration."""
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_MATRIX = 2


def read_gguf_config(path: Path) -> dict[str, Any]:
    """The configuration of the model in a GGUF file; remembered in the cache: a vocabulary takes 20 ms.

    Raises:
        ShapeError: no GGUF file, damaged, or a family that is not read from it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    words = (_MEMORY_VERSION, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    memory = cache_directory() / "gguf" / ("-".join(f"{word:x}" for word in words) + ".json")
    try:
        return dict(json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there yet, or damaged: read anew
        config = _read(path)
    _remember(memory, config)
    return config


def _remember(memory: Path, config: dict[str, Any]) -> None:
    """Beside and renamed, so that nobody reads half of it; without a writable cache nothing is remembered."""
    beside = memory.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(config), encoding="utf-8")
        beside.replace(memory)


def _unreadable(path: Path, error: Exception) -> ShapeError:
    hint = "check the file and its permissions"
    return ShapeError("", f"{path} cannot be read: {error}", hint, kind="unreadable")


def _read(path: Path) -> dict[str, Any]:
    try:
        header = parse_header(path)
    except GgufError as error:
        raise ShapeError("", error.message.removesuffix("."), error.hint, kind="unreadable") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    family = str(header.metadata.get("general.architecture", ""))
    if family not in _ARCHITECTURES or header.metadata.get(f"{family}.expert_count"):
        raise ShapeError(
            "general.architecture",
            f"the shape of a {family or 'nameless'!r} model is not read from GGUF",
            f"of GGUF files these are read: {', '.join(sorted(_ARCHITECTURES))}",
            kind="unknown-architecture",
        )
    found = {key: header.metadata.get(f"{family}.{name}") for key, name in _KEYS.items()}
    return {
        "architectures": [_ARCHITECTURES[family]],
        "model_type": family,
        "dtype": "bfloat16",
        **{key: value for key, value in found.items() if value is not None},
        **_vocabulary(header),
    }


def _vocabulary(header: GgufHeader) -> dict[str, Any]:
    """Rows of the embedding, and whether it is the head as well: then there is no other matrix."""
    by_name = {tensor.name: tensor.dimensions for tensor in header.tensors}
    embedding = by_name.get(_EMBEDDING, ())
    rows = {"vocab_size": embedding[1]} if len(embedding) == _MATRIX else {}
    return {**rows, "tie_word_embeddings": _HEAD not in by_name}
