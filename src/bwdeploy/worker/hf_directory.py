"""Edits to a Hugging Face model directory that every reader of it depends on, old or new.

Works on files only: JSON configurations, tokenizer files, file modes. Nothing here imports torch.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import ToolError
from bwdeploy.worker.process import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates",
)
_DEFAULT_ROPE_THETA = 10000.0
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ToolError: unreadable or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ToolError(f"{path} holds no JSON object.")
    return content


def update_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrite a JSON file; one that does not exist yet starts empty."""
    before = read_json(path) if path.exists() else {}
    write_atomically(path, json.dumps(change(before), indent=2, ensure_ascii=False) + "\n")


def token_texts(directory: Path, ids: dict[str, int]) -> dict[str, str]:
    """The text of each special token, looked up in tokenizer.json."""
    tokenizer = read_json(directory / "tokenizer.json")
    texts: dict[int, str] = {}
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        texts.update((index, text) for text, index in vocabulary.items())
    else:  # Unigram: a list of [text, score]
        texts.update((index, entry[0]) for index, entry in enumerate(vocabulary))
    texts.update((token["id"], token["content"]) for token in tokenizer.get("added_tokens", ()))
    return {word: texts[index] for word, index in ids.items() if index in texts}


def complete_config(directory: Path, *, dtype: str = "bfloat16") -> None:
    """Write `rope_theta` and `torch_dtype` where transformers 4 and TensorRT-LLM look for them.

    transformers 5 writes only `rope_parameters` and `dtype`; version 4 then silently takes 10000.0.
    """

    def complete(config: dict[str, Any]) -> dict[str, Any]:
        completed = config | {"dtype": dtype, "torch_dtype": dtype}
        parameters = config.get("rope_parameters")
        if "rope_theta" not in config and isinstance(parameters, dict):
            # A flat mapping, or (Gemma 3, ModernBERT) one mapping for each kind of layer.
            theta = parameters.get("rope_theta")
            if theta is None:
                nested = parameters.get("full_attention", {})
                theta = nested.get("rope_theta", _DEFAULT_ROPE_THETA) if isinstance(nested, dict) else None
            if theta is not None:
                completed["rope_theta"] = theta
        return completed

    update_json(directory / "config.json", complete)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy the tokenizer's own files; saving it again would rename its class for older readers."""
    for name in TOKENIZER_FILES:
        origin = source / name
        if origin.is_dir():
            shutil.copytree(origin, out / name, dirs_exist_ok=True, copy_function=shutil.copyfile)
        elif origin.is_file():
            shutil.copyfile(origin, out / name)


def copy_generation_config(source: Path, out: Path) -> None:
    """Keep the source's generation settings, which the export may have rewritten or dropped."""
    origin = source / "generation_config.json"
    if origin.is_file():
        shutil.copyfile(origin, out / origin.name)


def copy_remote_code(source: Path, out: Path) -> None:
    """Keep the Python files that a `trust_remote_code` model needs to load again."""
    for origin in sorted(source.glob("*.py")):
        shutil.copyfile(origin, out / origin.name)


def make_readable(directory: Path) -> None:
    """0644 for files and 0755 for directories: safetensors arrive as 0600, unreadable in a container."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, _DIRECTORY_MODE if path.is_dir() else _FILE_MODE)  # noqa: PTH101 - a mode by number
