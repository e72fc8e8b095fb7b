"""What ModelOpt can export to the TensorRT-LLM checkpoint layout, and how a model may be cut for it.

Data and pure predicates, shared by `check` and the worker. What TensorRT-LLM's own converters can do is
another matter and not said here.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.reader import read_data

if TYPE_CHECKING:
    from collections.abc import Iterator

NVFP4_BLOCK = 16
PER_CHANNEL = "FP8_PER_CHANNEL_PER_TOKEN"


class RankExportFacts(NamedTuple):
    """See the notes in rank_export.json."""

    architectures: dict[str, str]
    """Architecture → ModelOpt's decoder_type."""
    algorithms: frozenset[str]
    refused_formats: dict[str, str]
    """Word of `quantize.format` → why not."""
    lost_parts: dict[str, dict[str, str]]
    """Architecture → quant_algo → what its engine would leave out."""
    rope_types: frozenset[str]


class RankSizes(NamedTuple):
    """The sizes that tensor and pipeline parallelism cut."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int


class SizeConflict(NamedTuple):
    """A size that cannot be cut."""

    key: str
    """Stable name: heads, kv-heads, stages, width or block."""
    path: str
    """`layout.tp` or `layout.pp`."""
    message: str
    hint: str


@cache
def rank_export() -> RankExportFacts:
    """The facts, read once."""
    data = read_data("rank_export.json")
    return RankExportFacts(
        architectures=data["architectures"],
        algorithms=frozenset(data["algorithms"]),
        refused_formats=data["refused_formats"],
        lost_parts=data["lost_parts"],
        rope_types=frozenset(data["rope_types"]),
    )


def mixing_problem(algorithms: set[str]) -> str:
    """Why these algorithms cannot stand in one engine, or an empty string."""
    if PER_CHANNEL in algorithms and len(algorithms) > 1:
        others = ", ".join(sorted(algorithms - {PER_CHANNEL}))
        return f"{PER_CHANNEL} replaces whole blocks of an engine and cannot be mixed with {others}"
    return ""


def lost_part_problem(architecture: str, algorithms: set[str]) -> str:
    """What an engine of this model would leave out under one of these algorithms, or an empty string."""
    lost = rank_export().lost_parts.get(architecture, {})
    for algorithm in sorted(algorithms & lost.keys()):
        return f"an engine of {architecture} in {algorithm} leaves out {lost[algorithm]} without an error"
    return ""


def size_conflicts(sizes: RankSizes, *, tp: int, pp: int, block: int | None) -> Iterator[SizeConflict]:
    """Everything that tp and pp do not divide; `block`: inputs that share a scale, None for no blocks.

    ModelOpt checks few of these itself: it cuts heads in two and pads feed-forward blocks without a word.
    """
    fits = _choose(count for count in range(1, sizes.heads + 1) if _cuts(sizes, count, block))
    if sizes.heads % tp:
        message = f"{sizes.heads} attention heads do not divide by tp {tp}"
        yield SizeConflict("heads", "layout.tp", message, fits)
    elif sizes.kv_heads % tp and tp % sizes.kv_heads:
        message = f"{sizes.kv_heads} KV heads neither divide by tp {tp} nor divide it"
        yield SizeConflict("kv-heads", "layout.tp", message, fits)
    elif uneven := [text for text, width in _widths(sizes) if width % tp]:
        yield SizeConflict("width", "layout.tp", f"{uneven[0]} does not divide by tp {tp}", fits)
    elif block and (cut := [text for text, width in _widths(sizes) if width % (tp * block)]):
        message = f"{cut[0]} over tp {tp} is not a multiple of the {block} inputs that share a scale"
        yield SizeConflict("block", "layout.tp", message, fits)
    if sizes.layers % pp:
        message = f"{sizes.layers} layers do not divide by pp {pp}; ModelOpt exports equal stages only"
        even = _choose(count for count in range(1, sizes.layers + 1) if sizes.layers % count == 0)
        yield SizeConflict("stages", "layout.pp", message, even)


def _widths(sizes: RankSizes) -> tuple[tuple[str, int], ...]:
    return (
        (f"hidden size {sizes.hidden}", sizes.hidden),
        (f"feed-forward width {sizes.ffn}", sizes.ffn),
        (f"attention width {sizes.heads * sizes.head_size}", sizes.heads * sizes.head_size),
    )


def _cuts(sizes: RankSizes, tp: int, block: int | None) -> bool:
    whole_heads = sizes.heads % tp == 0 and (sizes.kv_heads % tp == 0 or tp % sizes.kv_heads == 0)
    return whole_heads and all(width % (tp * (block or 1)) == 0 for _, width in _widths(sizes))


def _choose(counts: Iterator[int]) -> str:
    fitting = list(counts)
    return f"choose one of: {', '.join(map(str, fitting))}" if fitting else "choose another format"
