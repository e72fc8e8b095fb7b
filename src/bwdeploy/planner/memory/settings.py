"""The few settings that change memory, with TensorRT-LLM's defaults.

They stand in `engine.llm_args`; for an engine in `serve.engine_parameters` and `engine.build_flags`.
Wrong values are the rules' concern: here they count as not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.recipe.schema import Recipe

_DEFAULT_KV_FRACTION = 0.9
_DEFAULT_TOKENS_PER_BLOCK = 32
_DEFAULT_GRAPH_BATCH = 128


class KvSettings(NamedTuple):
    """`kv_cache_config`."""

    fraction: float
    """Share of the memory that is left after weights and profiling."""
    max_tokens: int | None
    max_bytes: int | None
    tokens_per_block: int
    windows: tuple[int, ...]
    """Tokens that each layer keeps, repeated over the layers; empty: all of them."""
    dtype: str
    """auto, fp8, nvfp4 or a 16-bit type."""


class Drafting(NamedTuple):
    """What drafts, from the section `speculative` and `llm_args.speculative_config`."""

    method: Literal["eagle3", "mtp", "eagle", "medusa"]
    length: int
    """Tokens drafted in one step; the most that `auto` may choose."""


def kv_settings(recipe: Recipe) -> KvSettings:
    """`kv_cache_config`, or an engine's parameters, with upstream's defaults (llmapi/llm_args.py)."""
    given = _given_cache(recipe)
    fraction = given.get("free_gpu_memory_fraction")
    usable = isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 < fraction <= 1
    windows = given.get("max_attention_window")
    return KvSettings(
        fraction=float(fraction) if usable and fraction is not None else _DEFAULT_KV_FRACTION,
        max_tokens=_count(given.get("max_tokens")),
        max_bytes=_count(given.get("max_gpu_total_bytes")),
        tokens_per_block=_count(given.get("tokens_per_block")) or _DEFAULT_TOKENS_PER_BLOCK,
        windows=tuple(filter(None, map(_count, windows))) if isinstance(windows, list) else (),
        dtype=str(given.get("dtype") or "auto").lower(),
    )


def drafting(recipe: Recipe) -> Drafting | None:
    """The draft, if any; the recipe's own section decides."""
    if recipe.speculative is not None:
        return Drafting(recipe.speculative.method, recipe.speculative.longest_draft)
    given = _section(recipe.engine.llm_args, "speculative_config")
    match str(given.get("decoding_type") or "").lower():
        case "mtp":
            length = _count(given.get("num_nextn_predict_layers")) or _count(given.get("max_draft_len"))
            return Drafting("mtp", length or 1)
        case "eagle" | "eagle3":
            return Drafting("eagle3", _count(given.get("max_draft_len")) or 1)
        case _:
            return None


def graph_batch_sizes(recipe: Recipe) -> tuple[int, ...]:
    """Batch sizes that get a CUDA graph of their own; empty when graphs are off.

    CudaGraphConfig of tensorrt_llm/llmapi/llm_args.py makes the list; model_engine.py drops what is larger
    than a step can hold.
    """
    if recipe.engine.backend == "tensorrt":
        # Off unless the backend's parameters say otherwise; then the cache keeps this many.
        parameters = recipe.serve.engine_parameters
        kept = _count(parameters.get("cuda_graph_cache_size")) or 0
        return tuple(range(1, kept + 1)) if parameters.get("cuda_graph_mode") is True else ()
    args = recipe.engine.llm_args
    if "cuda_graph_config" in args and args["cuda_graph_config"] is None:
        return ()
    given = _section(args, "cuda_graph_config")
    listed = given.get("batch_sizes")
    if isinstance(listed, list) and listed:
        sizes = sorted({size for size in map(_count, listed) if size})
    else:
        largest = _count(given.get("max_batch_size")) or _DEFAULT_GRAPH_BATCH
        sizes = _generated_sizes(largest, padded=given.get("enable_padding") is True)
    draft = drafting(recipe)
    top = min(
        recipe.engine.max_batch_size, recipe.engine.max_num_tokens // (1 + (draft.length if draft else 0))
    )
    return tuple(size for size in sizes if size <= top)


def moe_token_limit(recipe: Recipe) -> int | None:
    """`moe_config.max_num_tokens`: longer steps go through the experts in pieces."""
    return _count(_section(recipe.engine.llm_args, "moe_config").get("max_num_tokens"))


def expert_slots(recipe: Recipe) -> int | None:
    """`moe_config.load_balancer.num_slots`: experts held over all ranks, busy ones several times."""
    balancer = _section(_section(recipe.engine.llm_args, "moe_config"), "load_balancer")
    return _count(balancer.get("num_slots"))


def pipeline_partition(recipe: Recipe) -> tuple[int, ...] | None:
    """`pp_partition`: layers of each pipeline stage."""
    given = recipe.engine.llm_args.get("pp_partition")
    if not isinstance(given, list) or not all(_count(item) for item in given):
        return None
    return tuple(given)


def _given_cache(recipe: Recipe) -> Mapping[str, Any]:
    if recipe.engine.backend == "pytorch":
        return _section(recipe.engine.llm_args, "kv_cache_config")
    parameters = recipe.serve.engine_parameters
    windows = parameters.get("max_attention_window_size")
    return {
        "free_gpu_memory_fraction": parameters.get("kv_cache_free_gpu_mem_fraction"),
        "max_tokens": parameters.get("max_tokens_in_paged_kv_cache"),
        "max_attention_window": windows if isinstance(windows, list) else [windows],
        "tokens_per_block": recipe.engine.build_flags.get("tokens_per_block"),
    }


def _generated_sizes(largest: int, *, padded: bool) -> list[int]:
    sizes = [1, 2, 4, *range(8, 129, 8)] if padded else [*range(1, 32), 32, 64, 128]
    power = 256
    while power < largest:
        sizes.append(power)
        power *= 2
    return sorted({size for size in (*sizes, largest) if size <= largest})


def _section(args: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = args.get(key)
    return found if isinstance(found, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
