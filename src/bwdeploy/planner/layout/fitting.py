"""Whether a model can be spread over a layout: heads, experts, stages and widths against the ranks.

Pure predicates that `check` and layout suggestions share. Each conflict says what is wrong and names the
values that would work. Memory is not looked at here, nor the hardware: see `memory` and `layouts`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.planner.weights.precision import format_storage
from bwdeploy.planner.weights.prequantized import general_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bwdeploy.errors import Severity
    from bwdeploy.model.shape import Attention, ModelShape
    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Layout, Recipe

LLAMA4 = frozenset({"llama4", "llama4_text"})
_ARGS: KeyPath = ("engine", "llm_args")
_CUT_BLOCKS = frozenset({16, 32})
"""Block sizes of NVFP4 and MXFP4; larger blocks of other formats are cut by their kernels."""


class LayoutArgs(NamedTuple):
    """The part of a layout that stands in `engine.llm_args`."""

    moe_tp: int | None = None
    moe_cluster: int = 1
    cp: int = 1
    pp_partition: tuple[int, ...] | None = None


class Conflict(NamedTuple):
    """Something about a layout that does not fit the model."""

    key: str
    """Stable name, for example `tp-heads`."""
    path: KeyPath
    """The recipe key that is best changed."""
    message: str
    hint: str
    severity: Severity = "error"


def layout_args(recipe: Recipe) -> LayoutArgs:
    """What the recipe's `engine.llm_args` say about the layout; values of a wrong type are passed over."""
    args = recipe.engine.llm_args
    partition = args.get("pp_partition")
    whole = isinstance(partition, list) and all(_is_count(part) for part in partition)
    return LayoutArgs(
        moe_tp=_count(args, "moe_tensor_parallel_size"),
        moe_cluster=_count(args, "moe_cluster_parallel_size") or 1,
        cp=_count(args, "context_parallel_size") or 1,
        pp_partition=tuple(partition) if whole and partition else None,
    )


def layout_conflicts(
    shape: ModelShape | None, layout: Layout, *, args: LayoutArgs | None = None, block: int | None = None
) -> tuple[Conflict, ...]:
    """Everything that does not fit, worst first.

    `shape` None: only what holds for any model. `block`: how many weights of a row share a scale in the
    feed-forward blocks (16 for NVFP4, 32 for MXFP4); None when it does not matter.
    """
    extra = args or LayoutArgs()
    found = list(_of_ranks(layout, extra))
    if shape is not None and shape.kind == "decoder":
        found += _of_heads(shape, layout)
        found += _of_experts(shape, layout)
        found += _of_stages(shape, layout, extra)
        found += _of_blocks(shape, layout, extra, block)
        found += _of_mla(shape, layout)
    return tuple(sorted(found, key=lambda one: ("error", "warning", "info").index(one.severity)))


def scale_block(recipe: Recipe, quantization: Mapping[str, Any] | None) -> int | None:
    """How many feed-forward weights share a scale; None when no width of a rank matters to it.

    `quantization` is what a quantized source says of itself.
    """
    word = recipe.quantize.format
    stored = format_storage(word) if word else general_storage(quantization or {})
    return stored.block if stored is not None and stored.block in _CUT_BLOCKS else None


def divisors(number: int) -> tuple[int, ...]:
    """All of them, small first."""
    return tuple(part for part in range(1, number + 1) if number % part == 0)


def _of_ranks(layout: Layout, args: LayoutArgs) -> Iterator[Conflict]:
    ranks, gpus = layout.tp * layout.pp * args.cp, layout.nodes * layout.gpus_per_node
    if ranks != gpus:
        cp = f" · context_parallel_size {args.cp}" if args.cp > 1 else ""
        message = (
            f"tp {layout.tp} · pp {layout.pp}{cp} = {ranks} ranks, "
            f"but nodes {layout.nodes} · gpus_per_node {layout.gpus_per_node} = {gpus} GPUs"
        )
        others = layout.pp * args.cp
        fitting = f"set layout.tp: {gpus // others}, or " if gpus % others == 0 else ""
        yield Conflict("world-size", ("layout",), message, f"{fitting}use {ranks} GPUs")
    if layout.tp % layout.ep:
        message = f"ep {layout.ep} does not divide tp {layout.tp}"
        yield Conflict("ep-divides-tp", ("layout", "ep"), message, _choose(divisors(layout.tp)))
    else:
        yield from _of_moe_ranks(layout, args)
    if args.cp > 1 and layout.ep > 1:
        message = f"context parallelism ({args.cp}) does not go with expert parallelism (ep {layout.ep})"
        hint = "set layout.ep: 1, or leave context_parallel_size out"
        yield Conflict("cp-with-ep", (*_ARGS, "context_parallel_size"), message, hint)


def _of_moe_ranks(layout: Layout, args: LayoutArgs) -> Iterator[Conflict]:
    cluster = args.moe_cluster
    if cluster > 1 and layout.ep > 1:
        message = f"moe_cluster_parallel_size {cluster} works with ep 1 only, and ep is {layout.ep}"
        hint = "leave it out (TensorRT-LLM 1.3 has no use for it), or set layout.ep: 1"
        yield Conflict("moe-cluster-with-ep", (*_ARGS, "moe_cluster_parallel_size"), message, hint)
    product = (args.moe_tp or 0) * layout.ep * cluster
    if args.moe_tp is not None and product != layout.tp:
        message = (
            f"moe_tensor_parallel_size {args.moe_tp} · ep {layout.ep} · moe_cluster_parallel_size {cluster}"
            f" = {product}, but tp is {layout.tp}"
        )
        hint = f"leave it out: it is then tp / ep = {layout.tp // layout.ep}"
        yield Conflict("moe-product", (*_ARGS, "moe_tensor_parallel_size"), message, hint)


def _of_heads(shape: ModelShape, layout: Layout) -> Iterator[Conflict]:
    tp = layout.tp
    if layout.attention_dp or tp == 1:
        return
    kinds = {layer.attention for layer in shape.layers if layer.attention.kind != "none"}
    fits = _values(layout, lambda count: all(_heads_fit(kind, count, shape) for kind in kinds))
    for kind in sorted(kinds, key=lambda one: (one.heads, one.kv_heads)):
        if _heads_fit(kind, tp, shape):
            continue
        message = (
            f"{kind.heads} attention heads do not divide by tp {tp}"
            if kind.heads % tp
            else f"{kind.kv_heads} KV heads neither divide by tp {tp} nor divide it"
        )
        key = "tp-heads" if kind.heads % tp else "tp-kv-heads"
        if shape.model_type in LLAMA4:
            message = f"Llama 4 ({kind.heads} heads, {kind.kv_heads} KV heads) does not run with tp {tp}"
            key = "llama4-tp"
        yield Conflict(key, ("layout", "tp"), message, _choose(fits))
        return
    widest = min((kind.kv_heads for kind in kinds if kind.kind == "gqa"), default=tp)
    if tp > widest:
        message = (
            f"tp {tp} over {widest} KV heads keeps each of them {tp // widest} times:"
            f" a request takes {tp // widest} times the KV memory"
        )
        hint = f"count on that, or use tp {widest} and pp {tp // widest * layout.pp}"
        yield Conflict("kv-heads-replicated", ("layout", "tp"), message, hint, "warning")


def _heads_fit(kind: Attention, tp: int, shape: ModelShape) -> bool:
    if shape.model_type in LLAMA4:
        return math.gcd(kind.heads, kind.kv_heads) % tp == 0
    if kind.heads % tp:
        return False
    return kind.kind != "gqa" or kind.kv_heads % tp == 0 or tp % kind.kv_heads == 0


def _of_experts(shape: ModelShape, layout: Layout) -> Iterator[Conflict]:
    counts = {layer.ffn.experts for layer in shape.layers if layer.ffn.kind == "moe"}
    if layout.ep > 1 and not counts:
        message = f"ep {layout.ep}, but the model has no experts"
        yield Conflict("ep-without-experts", ("layout", "ep"), message, "set layout.ep: 1", "warning")
    for experts in sorted(counts):
        if experts % layout.ep:
            lost = experts % layout.ep
            message = f"{experts} experts do not divide by ep {layout.ep}: {lost} would be lost"
            fits = [ep for ep in divisors(layout.tp) if all(count % ep == 0 for count in counts)]
            yield Conflict("experts-ep", ("layout", "ep"), message, _choose(fits))
            return


def _of_stages(shape: ModelShape, layout: Layout, args: LayoutArgs) -> Iterator[Conflict]:
    layers, pp = len(shape.layers), layout.pp
    partition = args.pp_partition
    if pp > layers:
        message = f"pp {pp} stages for {layers} layers: some would be empty"
        yield Conflict("pp-layers", ("layout", "pp"), message, f"use at most {layers}")
    elif partition is not None and (len(partition) != pp or sum(partition) != layers):
        message = (
            f"pp_partition has {len(partition)} parts of together {sum(partition)} layers,"
            f" but pp is {pp} and the model has {layers} layers"
        )
        hint = f"give {pp} numbers with the sum {layers}, or leave it out"
        yield Conflict("pp-partition", (*_ARGS, "pp_partition"), message, hint)
    elif layers % pp and partition is None:
        message = f"{layers} layers over pp {pp}: the first {layers % pp} stages hold one layer more"
        hint = "plan memory for the first stage; aiconfigurator has no figures for uneven stages"
        yield Conflict("uneven-stages", ("layout", "pp"), message, hint, "info")


def _of_blocks(shape: ModelShape, layout: Layout, args: LayoutArgs, block: int | None) -> Iterator[Conflict]:
    if block is None or layout.tp % layout.ep:
        return
    for what, width, ranks, path in _cut_widths(shape, layout, args):
        share = width / ranks
        if share % block == 0:
            continue
        message = (
            f"{what} width {width} over {ranks} ranks is {share:g} each,"
            f" not a multiple of {block}: the kernels would pad"
        )
        fits = [str(count) for count in divisors(ranks) if width / count % block == 0]
        hint = f"cut it over {' or '.join(fits)} ranks by tp and ep" if fits else "choose another format"
        yield Conflict("block-width", path, message, hint, "warning")
        return


def _cut_widths(
    shape: ModelShape, layout: Layout, args: LayoutArgs
) -> Iterator[tuple[str, int, int, KeyPath]]:
    """What is cut: its name, its width, over how many ranks, and the key that decides it."""
    moe_ranks = max(1, layout.tp // layout.ep // args.moe_cluster)
    dense_ranks = 1 if layout.attention_dp else layout.tp
    blocks = dict.fromkeys(layer.ffn for layer in shape.layers)
    for ffn in blocks:
        if ffn.kind == "moe":
            yield "expert", ffn.width, moe_ranks, ("layout", "ep")
            if ffn.shared_width:
                yield "shared expert", ffn.shared_width, dense_ranks, ("layout", "tp")
        elif ffn.kind == "dense":
            yield "feed-forward", ffn.width, dense_ranks, ("layout", "tp")


def _of_mla(shape: ModelShape, layout: Layout) -> Iterator[Conflict]:
    if layout.tp == 1 or layout.attention_dp:
        return
    if any(layer.attention.kind == "mla" for layer in shape.layers):
        message = f"each of the {layout.tp} ranks keeps the whole KV cache of this model (MLA)"
        hint = f"for throughput set layout.attention_dp: true: {layout.tp} times the room for requests"
        yield Conflict("mla-replicated", ("layout", "attention_dp"), message, hint, "info")


def _values(layout: Layout, fits: Callable[[int], bool]) -> list[int]:
    """Values of tp that work, up to the GPUs of the layout and at least up to 8."""
    most = max(8, layout.nodes * layout.gpus_per_node)
    return [count for count in range(1, most + 1) if fits(count)]


def _choose(values: Iterable[int]) -> str:
    return "choose one of: " + ", ".join(str(value) for value in values)


def _count(args: dict[str, Any], key: str) -> int | None:
    value = args.get(key)
    return value if _is_count(value) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
