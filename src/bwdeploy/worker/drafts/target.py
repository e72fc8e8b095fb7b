"""The target of a draft: what a draft must agree with, and how a trained draft remembers it.

`bwdeploy_target.json` lies beside a draft that was trained here. It keeps digests of tokenizer, chat template
and the draft's own token map, so that a later audit can tell whether the draft is put beside another model or
was changed since; runtimes ignore it.
"""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.model.describe import describe_source
from bwdeploy.model.json_file import read_json_object
from bwdeploy.model.problem import ShapeError
from bwdeploy.recipe.uris import FILE_SCHEME
from bwdeploy.worker.process import write_atomically
from bwdeploy_runtime.quantization import TensorReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

TARGET_FILE = "bwdeploy_target.json"
_MAX_TOKENIZER_BYTES = 256 * 2**20


class Target(NamedTuple):
    """The model that a draft drafts for."""

    directory: Path
    hidden_size: int
    vocab_size: int
    layers: int
    dtype: str
    """Of its weights that are not quantized."""
    config: dict[str, Any]
    """Of its text part."""


def read_target(directory: Path) -> Target:
    """Read the target's configuration.

    Raises:
        ShapeError: it cannot be read, or its shape is not known.
    """
    found = describe_source(f"{FILE_SCHEME}{directory}")
    shape = found.shape
    if shape is None or not shape.layers or not shape.hidden or not shape.vocab:
        reason = found.problem.message if found.problem else "its layers are not known"
        raise ShapeError("", f"the target cannot be described: {reason}", "audit it first", kind="unreadable")
    config = found.config or {}
    text = config.get("text_config")
    return Target(
        directory=directory,
        hidden_size=shape.hidden,
        vocab_size=shape.vocab,
        layers=len(shape.layers),
        dtype=shape.dtype,
        config=text if isinstance(text, dict) else config,
    )


def vocabulary(directory: Path) -> dict[int, str] | None:
    """Token id → token of the tokenizer in `directory`, added tokens included; None without one.

    Raises:
        ShapeError: there is one that cannot be read.
    """
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
    file = next((directory / name for name in names if (directory / name).is_file()), None)
    if file is None:
        return None
    try:
        tokens = _tokens(file)
    except Exception as error:  # tokenizers raises a plain Exception, transformers what it likes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = "copy the tokenizer's files again, or remove them from the draft's directory"
        raise ShapeError("", f"{file} cannot be read: {reason}", hint, kind="unreadable") from error
    return {number: token for token, number in tokens.items()}


def _tokens(file: Path) -> dict[str, int]:
    if file.name == "tokenizer.json":
        fast = import_module("tokenizers").Tokenizer.from_file(str(file))
        return dict(fast.get_vocab(with_added_tokens=True))
    slow = import_module("transformers").AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False)
    return dict(slow.get_vocab())


def chat_template(directory: Path) -> str | None:
    """The chat template's text, wherever it stands; None without one."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        try:
            found = read_json_object(directory / name, max_bytes=_MAX_TOKENIZER_BYTES).get("chat_template")
        except ShapeError:
            continue
        if found:
            return found if isinstance(found, str) else json.dumps(found, sort_keys=True)
    return None


def identity_of(directory: Path, hidden_layers: Sequence[int]) -> dict[str, Any]:
    """What a draft for the target in `directory` must remember of it.

    Raises:
        ShapeError: the target cannot be described.
    """
    target = read_target(directory)
    tokens, template = vocabulary(directory), chat_template(directory)
    return {
        "vocab_size": target.vocab_size,
        "hidden_size": target.hidden_size,
        "layers": target.layers,
        "hidden_layers": list(hidden_layers),
        "tokenizer_sha256": vocabulary_digest(tokens) if tokens is not None else None,
        "chat_template_sha256": text_digest(template) if template is not None else None,
    }


def write_identity(draft: Path, target: Path, hidden_layers: Sequence[int]) -> None:
    """Write `bwdeploy_target.json` into the directory of a draft, whose weights are there.

    Raises:
        ShapeError: the target cannot be described.
    """
    with TensorReader(draft) as reader:
        known = {"d2t_sha256": map_digest(reader.tensor("d2t"))} if "d2t" in reader else {}
    content = identity_of(target, hidden_layers) | known
    write_atomically(draft / TARGET_FILE, json.dumps(content, indent=1) + "\n")


def read_identity(draft: Path) -> dict[str, Any] | None:
    """What the draft remembers of its target; None for one that was not trained here.

    Raises:
        ShapeError: the file is damaged.
    """
    file = draft / TARGET_FILE
    if not file.is_file():
        return None
    content = read_json_object(file)
    if not isinstance(content.get("hidden_layers"), list):
        hint = "copy the draft again, or remove that file from a copy of it"
        raise ShapeError("", f"{file} lists no hidden_layers", hint, kind="unreadable")
    return content


def vocabulary_digest(tokens: dict[int, str]) -> str:
    """SHA-256 over id and token, by id: the same however the tokenizer's file is laid out."""
    return text_digest(json.dumps(sorted(tokens.items()), ensure_ascii=True, separators=(",", ":")))


def map_digest(d2t: Tensor) -> str:
    """SHA-256 of a map from draft tokens to those of the target, whatever type it is stored in."""
    return text_digest(json.dumps(d2t.flatten().long().tolist(), separators=(",", ":")))


def text_digest(text: str) -> str:
    """SHA-256 of a text, as hex."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
