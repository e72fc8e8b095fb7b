"""Settings of a recipe that are known to cost speed, with what the right one gained where it was published.

For somebody whose figure is far from the published one. Gains belong to the model and software they were
taken with and do not multiply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.memory.settings import drafting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe

_LATENCY_BLOG = "TensorRT-LLM tech_blog/blog1 (DeepSeek-R1 latency on B200)"
_MTP_BLOG = "TensorRT-LLM tech_blog/blog2 (MTP)"
_THROUGHPUT_BLOG = "TensorRT-LLM tech_blog/blog3 (DeepSeek-R1 throughput on B200)"
_WRONG_FLAGS = "https://github.com/NVIDIA/TensorRT-LLM/issues/3058"
_TRTLLM_MOE_SM = frozenset({100, 103})


class SlowSetting(NamedTuple):
    """One setting to look at."""

    key: str
    """Dotted path in the recipe."""
    advice: str
    source: str

    def __str__(self) -> str:
        return f"{self.key}: {self.advice}"


def slow_settings(
    recipe: Recipe, shape: ModelShape, gpu: Gpu, *, per_user: bool, input_tokens: int
) -> tuple[SlowSetting, ...]:
    """Settings that cost speed: of one user with `per_user`, else of the whole deployment."""
    both = _of_both(recipe, input_tokens)
    one_sided = _of_latency(recipe, shape, gpu) if per_user else _of_throughput(recipe, shape)
    return (*both, *one_sided)


def settings_against(recipe: Recipe, input_tokens: int) -> tuple[SlowSetting, ...]:
    """Settings that every estimate assumes to be right: CUDA graphs, overlap, room for a prompt in a step."""
    return tuple(_of_both(recipe, input_tokens))


def _of_both(recipe: Recipe, input_tokens: int) -> Iterator[SlowSetting]:
    args, engine = recipe.engine.llm_args, recipe.engine
    if "cuda_graph_config" in args and args["cuda_graph_config"] is None:
        advice = "CUDA graphs are off; on, they gave 7.2 times at batch 1 and 22 % at full load"
        yield SlowSetting("engine.llm_args.cuda_graph_config", advice, f"{_MTP_BLOG} · {_THROUGHPUT_BLOG}")
    if args.get("disable_overlap_scheduler") is True:
        advice = "the overlap scheduler is off; on, it gave 3 to 4 %"
        yield SlowSetting(
            "engine.llm_args.disable_overlap_scheduler", advice, f"{_MTP_BLOG} · {_THROUGHPUT_BLOG}"
        )
    if engine.max_num_tokens < input_tokens:
        advice = f"{engine.max_num_tokens} is less than a prompt of {input_tokens} tokens"
        yield SlowSetting("engine.max_num_tokens", advice, _WRONG_FLAGS)


def _of_latency(recipe: Recipe, shape: ModelShape, gpu: Gpu) -> Iterator[SlowSetting]:
    layout, args = recipe.layout, recipe.engine.llm_args
    if layout.attention_dp:
        yield SlowSetting("layout.attention_dp", "off for the speed of one user", _WRONG_FLAGS)
    if drafting(recipe) is None:
        advice = "nothing drafts; three MTP tokens gave 2.2 times"
        yield SlowSetting("speculative", advice, _MTP_BLOG)
    moe = args.get("moe_config")
    backend = moe.get("backend") if isinstance(moe, dict) else None
    if gpu.sm in _TRTLLM_MOE_SM and _has_experts(shape) and backend != "TRTLLM":
        advice = "TRTLLM is the fast one for small batches on this GPU (253 → 299 tokens/s with its layout)"
        yield SlowSetting("engine.llm_args.moe_config.backend", advice, _LATENCY_BLOG)
    if _has_experts(shape) and layout.ep == layout.tp > 1:
        advice = f"ep {layout.ep} gives each expert one GPU; ep 2 was the fastest at batch 1"
        yield SlowSetting("layout.ep", advice, _LATENCY_BLOG)


def _of_throughput(recipe: Recipe, shape: ModelShape) -> Iterator[SlowSetting]:
    layout = recipe.layout
    if layout.tp > 1 and not layout.attention_dp and any(one.attention.kind == "mla" for one in shape.layers):
        advice = "on, data parallel attention gave 5 times"
        yield SlowSetting("layout.attention_dp", advice, _THROUGHPUT_BLOG)
    if layout.tp > 1 and layout.ep == 1 and _has_experts(shape):
        yield SlowSetting("layout.ep", f"ep {layout.tp} gave 2.4 times", _THROUGHPUT_BLOG)
    if recipe.quantize.method == "ptq" and recipe.quantize.kv_cache == "none":
        advice = "an FP8 KV cache gave 6 %, and room for twice the requests"
        yield SlowSetting("quantize.kv_cache", advice, _THROUGHPUT_BLOG)


def _has_experts(shape: ModelShape) -> bool:
    return any(layer.ffn.kind == "moe" for layer in shape.layers)
