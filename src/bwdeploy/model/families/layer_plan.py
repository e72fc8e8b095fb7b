"""Which layer is what: where experts stand, and how far back each layer looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.families.feed_forward import EXPERT_COUNTS, require_no_experts
from bwdeploy.model.fields import MAX_POSITIONS
from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from bwdeploy.model.families.traits import Traits
    from bwdeploy.model.fields import Fields

_BOUNDED = frozenset({"sliding_attention", "chunked_attention", "local_attention", "sliding_window"})
_WHOLE = frozenset({"full_attention", "attention", "global_attention", "deepseek_sparse_attention"})
_NO_CACHE = frozenset({"linear_attention", "mamba", "mamba2", "recurrent", "conv"})
_DEFAULT_INTERVALS = {"even": 2, "all but each fourth": 4, "all but each sixth": 6}
_CHUNK_INTERVAL = 4
_LINEAR_INTERVAL = 4
_QWEN_WINDOW_LAYERS = 28
"""The default of `max_window_layers` in transformers."""


def expert_layers(fields: Fields, count: int) -> tuple[bool, ...]:
    """For each layer whether it has experts.

    Raises:
        ShapeError: a key about it is impossible.
    """
    if not fields.has(*EXPERT_COUNTS):
        require_no_experts(fields)
        return (False,) * count
    if fields.optional(*EXPERT_COUNTS, minimum=0) == 0:
        return (False,) * count
    kinds = fields.words("mlp_layer_types", length=count)
    if kinds is not None:
        return tuple(kind == "sparse" for kind in kinds)
    named = fields.integers("moe_layers")
    if named is not None:
        return tuple(index in named for index in range(count))
    dense = fields.integers("mlp_only_layers") or ()
    flags = _flags(fields, count)
    return tuple(index not in dense and flags[index] and _sparse(fields, index) for index in range(count))


def _sparse(fields: Fields, index: int) -> bool:
    """The keys of all families at once: a model has those of its own, the others have no say."""
    first = fields.optional("first_k_dense_replace", "moe_layer_start_index", minimum=0) or 0
    last = fields.optional("moe_layer_end_index", minimum=0)
    each = fields.optional("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval") or 1
    return first <= index and (last is None or index <= last) and (index + 1) % each == 0


def _flags(fields: Fields, count: int) -> tuple[bool, ...]:
    """DeepSeek's `moe_layer_freq` is a number; MiMo writes a 0 or 1 for each layer."""
    if not isinstance(fields.config.get("moe_layer_freq"), list):
        each = fields.optional("moe_layer_freq") or 1
        return tuple(index % each == 0 for index in range(count))
    flags = fields.integers("moe_layer_freq") or ()
    if len(flags) != count:
        raise fields.impossible("moe_layer_freq", f"has {len(flags)} entries for {count} layers")
    return tuple(map(bool, flags))


def cacheless_layers(fields: Fields, traits: Traits, count: int) -> tuple[bool, ...]:
    """For each layer whether it keeps no KV cache: linear attention, state spaces, convolutions.

    Raises:
        ShapeError: `layer_types` is impossible.
    """
    kinds = _kinds(fields, count)
    if kinds is not None:
        return tuple(kind in _NO_CACHE for kind in kinds)
    if not traits.linear:
        return (False,) * count
    interval = fields.number("full_attention_interval", default=_LINEAR_INTERVAL)
    return tuple((index + 1) % interval != 0 for index in range(count))


def spans(fields: Fields, traits: Traits, count: int) -> tuple[int | None, ...]:
    """For each layer the tokens that it looks back on; None: all of them.

    Raises:
        ShapeError: a key about it is impossible.
    """
    size = _window(fields, traits)
    if size is None:
        return (None,) * count
    kinds = _kinds(fields, count)
    bounded = (
        tuple(kind in _BOUNDED for kind in kinds)
        if kinds is not None
        else tuple(_is_bounded(fields, traits, index) for index in range(count))
    )
    if traits.window == "chunks" and kinds is None:
        bounded = _chunked(fields, count)
    return tuple(size if flag else None for flag in bounded)


def _kinds(fields: Fields, count: int) -> tuple[str, ...] | None:
    kinds = fields.words("layer_types", length=count)
    for kind in kinds or ():
        if kind not in _BOUNDED | _WHOLE | _NO_CACHE:
            raise ShapeError(
                "layer_types",
                f"layer_types names {kind!r}, which is no kind of attention known here",
                "name a directory with its safetensors files: their headers are read instead",
                kind="unknown-architecture",
            )
    return kinds


def _window(fields: Fields, traits: Traits) -> int | None:
    if fields.has("use_sliding_window") and not fields.flag("use_sliding_window", default=False):
        return None
    if traits.window == "qwen" and not fields.has("use_sliding_window"):
        return None
    key = "attention_chunk_size" if traits.window == "chunks" else "sliding_window"
    size = fields.optional(key, minimum=1, maximum=MAX_POSITIONS)
    longest = fields.optional("max_position_embeddings", maximum=MAX_POSITIONS)
    return None if size is None or (longest is not None and size >= longest) else size


def _is_bounded(fields: Fields, traits: Traits, index: int) -> bool:
    if traits.window == "none":
        return False
    if traits.window == "qwen":
        return index >= fields.number("max_window_layers", default=_QWEN_WINDOW_LAYERS, minimum=0)
    if traits.window in _DEFAULT_INTERVALS:
        interval = _DEFAULT_INTERVALS[traits.window]
        if not isinstance(fields.config.get("sliding_window_pattern"), str):
            interval = fields.number("sliding_window_pattern", "_sliding_window_pattern", default=interval)
        return (index + 1) % interval != 0
    return True


def _chunked(fields: Fields, count: int) -> tuple[bool, ...]:
    """Llama 4: layers with rotary positions attend in chunks, the others to everything."""
    rotary = fields.integers("no_rope_layers")
    if rotary:
        return tuple(index < len(rotary) and rotary[index] != 0 for index in range(count))
    interval = fields.number("no_rope_layer_interval", default=_CHUNK_INTERVAL)
    return tuple((index + 1) % interval != 0 for index in range(count))
