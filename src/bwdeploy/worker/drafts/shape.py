"""An EAGLE3 draft as its files describe it: configuration, tensors under one set of names, its shape.

ModelOpt exports `layers.0.*`, most published drafts have `midlayer.*`, Llama 4's say `feed_forward`; the
names here are ModelOpt's. Reads JSON and safetensors headers, never a weight; judges nothing (see `audit`).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.model.headers import TensorHeader, read_header, weight_files
from bwdeploy.model.json_file import read_json_object
from bwdeploy.model.problem import ShapeError
from bwdeploy.pipeline.training_jobs import DraftShape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CAPTURED = 3
"""Layers of the target that an EAGLE3 draft reads, where its configuration does not list them."""
MAPS = ("d2t", "t2d")
"""Draft token → offset to its token of the target, and target token → whether the draft has it."""
_PREFIXES = ("eagle_module.", "model.")
_RENAMED = (
    (re.compile(r"^midlayer\.(?=\d+\.)"), "layers."),
    (re.compile(r"^midlayer\."), "layers.0."),
    (re.compile(r"\.feed_forward\."), ".mlp."),
)
_PACKED = {"U8", "I8"}
"""Types in which one stored number may be two of the tensor's."""
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_BUFFERS = (".rotary_emb.inv_freq",)


class DraftFiles(NamedTuple):
    """What lies in a draft's directory."""

    config: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]
    """By ModelOpt's names."""
    stored_names: Mapping[str, str]
    """ModelOpt's name → the name in the file."""

    def size(self, name: str, axis: int) -> int | None:
        """One dimension of a tensor; None when the draft does not have it, or packs its values."""
        header = self.tensors.get(name)
        shape = () if header is None or header.dtype in _PACKED else header.shape
        return shape[axis] if axis < len(shape) else None

    def number(self, key: str) -> int | None:
        """A whole number of the configuration above 0, else None."""
        value = self.config.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def read_draft(directory: Path) -> DraftFiles:
    """Read configuration and headers.

    Raises:
        ShapeError: a file is missing, damaged, or holds pickled weights only.
    """
    config = read_json_object(directory / "config.json")
    files = weight_files(directory)
    if not files:
        pickled = any(directory.glob("*.bin")) or any(directory.glob("*.pt"))
        reason = "only pickled weights, which can run code when they are read" if pickled else "no weights"
        raise ShapeError("", f"the draft has {reason}", "convert it to safetensors", kind="unreadable")
    tensors: dict[str, TensorHeader] = {}
    stored: dict[str, str] = {}
    for file in files:
        for name, header in read_header(file).items():
            if not name.endswith(_BUFFERS):
                tensors[canonical_name(name)] = header
                stored[canonical_name(name)] = name
    return DraftFiles(config=config, tensors=tensors, stored_names=stored)


def shape_of(files: DraftFiles, *, target_layers: int) -> DraftShape:
    """The draft's shape; what neither configuration nor tensors say is 0."""
    hidden = files.number("hidden_size") or files.size("norm.weight", 0) or 0
    vocab = files.number("vocab_size") or files.size("t2d", 0) or files.size("embed_tokens.weight", 0) or 0
    drafted = files.size("lm_head.weight", 0) or files.size("d2t", 0) or files.number("draft_vocab_size")
    architectures = files.config.get("architectures")
    return DraftShape(
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else "",
        layers=files.number("num_hidden_layers") or 1,
        hidden_size=hidden,
        ffn_width=files.number("intermediate_size") or files.size("layers.0.mlp.gate_proj.weight", 0) or 0,
        vocab_size=vocab,
        draft_vocab_size=drafted or vocab,
        hidden_layers=captured_layers(files) or default_layers(target_layers),
        dtype=stored_dtype(files),
        parameters=sum(header.elements for name, header in files.tensors.items() if name not in MAPS),
    )


def captured_layers(files: DraftFiles) -> tuple[int, ...] | None:
    """The layers of the target whose output the draft was trained on; None when its configuration is silent.

    ModelOpt writes `eagle_config.eagle_aux_hidden_state_layer_ids`; an id is the index of the decoder layer
    whose output is read, as in TensorRT-LLM's `eagle3_layers_to_capture`.
    """
    section = files.config.get("eagle_config")
    for place in (section if isinstance(section, dict) else {}, files.config):
        found = place.get("eagle_aux_hidden_state_layer_ids")
        if isinstance(found, list) and found and all(type(one) is int for one in found):
            return tuple(found)
    return None


def default_layers(layers: int) -> tuple[int, int, int]:
    """What TensorRT-LLM captures of a target with that many layers when it is told nothing.

    Source: tensorrt_llm/_torch/speculative/eagle3.py.
    """
    return (1, layers // 2 - 1, layers - 4)


def stored_dtype(files: DraftFiles) -> str:
    """The type that most weights have, in torch's spelling; empty without weights."""
    counts: Counter[str] = Counter()
    for name, header in files.tensors.items():
        if name not in MAPS:
            counts[header.dtype] += header.elements
    return next((_DTYPES.get(dtype, dtype) for dtype, _ in counts.most_common(1)), "")


def canonical_name(name: str) -> str:
    """ModelOpt's name of a draft's tensor."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
